// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Errors
/// @notice Every refusal, with the values that explain it.
library Errors {
    // --- construction ----------------------------------------------------------------------------------------------

    /// @notice A constructor argument that no deployment can work with.
    error BadConfiguration(string field);
    /// @notice Attestors are given strictly ascending and nonzero.
    error AttestorsNotAscending(address previous, address next);
    /// @notice A threshold must exceed half of the set and not the set: 2t > n ≥ t.
    error BadThreshold(uint256 threshold, uint256 members);
    /// @notice Tokens with more than 18 decimals are not listed.
    error TooManyDecimals(address token, uint256 decimals);

    // --- signatures ------------------------------------------------------------------------------------------------

    /// @notice Signatures are 65 bytes each, concatenated, with nothing trailing.
    error SignatureLength(uint256 length);
    /// @notice Fewer signatures than the set's threshold.
    error BelowThreshold(uint256 signatures, uint256 threshold);
    /// @notice v is neither 27 nor 28.
    error SignatureV(uint256 index, uint8 v);
    /// @notice s is in the upper half of the order: the malleable twin of a valid signature.
    error SignatureS(uint256 index, bytes32 s);
    /// @notice No address recovers from the signature.
    error SignatureInvalid(uint256 index);
    /// @notice No signer is a member: signed for another deployment, chain, contract or set.
    error ForeignDigest(bytes32 digest, address recovered);
    /// @notice A signature over other bytes, or by someone who is no member.
    error UnknownSigner(uint256 index, address recovered);
    /// @notice Signers are given strictly ascending.
    error SignersNotAscending(address previous, address next);
    /// @notice One member signed twice.
    error DuplicateSigner(address signer);
    /// @notice Not the set this contract knows.
    error UnknownAttestorSet(uint64 given, uint64 known);

    // --- batches ---------------------------------------------------------------------------------------------------

    /// @notice The margin parameters are not this deployment's.
    error ParametersMismatch(bytes32 given, bytes32 known);
    /// @notice `epoch` is not `timestamp` ÷ EPOCH_SECONDS.
    error EpochMismatch(uint64 epoch, uint64 timestamp);
    /// @notice The held batch is of this epoch or a later one.
    error EpochNotRising(uint64 held, uint64 given);
    /// @notice The timestamp is further ahead of the block than the allowed skew.
    error TimestampInFuture(uint64 timestamp, uint256 blockTime, uint256 maxSkew);
    /// @notice The batch may not be posted any more.
    error BatchExpired(uint64 validUntil, uint256 blockTime);
    /// @notice The cut given is not the one that was signed.
    error CutHashMismatch(bytes32 given, bytes32 signed);
    /// @notice A cut names its chains strictly ascending.
    error CutNotAscending(uint64 previous, uint64 next);
    /// @notice The cut has no entry for this chain.
    error ChainNotInCut(uint256 chainId);
    /// @notice The cut's block of this chain is older than the held batch's.
    error CutWentBack(uint64 held, uint64 given);
    /// @notice The cut's block is not in this chain's history: too old or not yet mined.
    error BlockUnknown(uint64 number);
    /// @notice The cut's block is not this chain's.
    error BlockHashMismatch(uint64 number, bytes32 given, bytes32 known);
    /// @notice A cut in which every chain is late says nothing.
    error AllChainsLate();

    // --- proofs and ages -------------------------------------------------------------------------------------------

    /// @notice No batch was posted yet.
    error NoBatch();
    /// @notice The leaf of zeros proves nothing.
    error ZeroLeaf();
    /// @notice Every tree has at least two leaves: an empty proof is none.
    error EmptyProof();
    /// @notice The leaf is in no batch that counts: not in the current one, nor in one superseded within the grace.
    error InvalidProof(bytes32 leaf);
    /// @notice The leaf is for another chain.
    error WrongChain(uint64 given, uint256 here);
    /// @notice The marks are older than the caller accepts, seconds.
    error MarksTooOld(uint256 age, uint256 maxAge);
    /// @notice The state behind the margin is older than the caller accepts, seconds.
    error StateTooOld(uint256 age, uint256 maxAge);
    /// @notice A leg counts only while the latest posted batch lists it.
    error LegNotInLatestBatch(bytes32 leaf);

    // --- permits ---------------------------------------------------------------------------------------------------

    /// @notice Only the clearing house, the vault and the reservations spend permits.
    error NotConsumer(address caller);
    /// @notice The permit's deadline has passed.
    error PermitExpired(uint64 deadline, uint256 blockTime);
    /// @notice The permit is valid for longer than any may be, seconds.
    error PermitTooLong(uint256 validity, uint256 maxValidity);
    /// @notice The permit's action was executed already.
    error NonceAlreadyUsed(bytes32 accountId, uint256 nonce);
    /// @notice The permit is for other accounts.
    error PermitAccountMismatch(bytes32 accountId, bytes32 counterpartyId);
    /// @notice The permit is for another action.
    error ActionMismatch(bytes32 expected, bytes32 given);
    /// @notice Only claims on reservations and their payout touch an integrator's claims account.
    error ClaimsAccount(bytes32 accountId);

    // --- owners ----------------------------------------------------------------------------------------------------

    /// @notice Only the account's owner may do this.
    error NotOwner(address caller, bytes32 accountId);
    /// @notice The account has no owner.
    error NoOwner(bytes32 accountId);
    /// @notice An address that cannot be zero, or this contract.
    error BadAddress(address given);
    /// @notice Nothing to do for an amount or size of zero.
    error ZeroAmount();

    // --- bridge ----------------------------------------------------------------------------------------------------

    /// @notice The bridge has no counterpart on this chain.
    error NoRoute(uint64 toChain);
    /// @notice No message of this bridge is so short, bytes.
    error MessageTooShort(uint256 length, uint256 least);
    /// @notice The message comes from a domain that is none of the deployment's.
    error UnknownDomain(uint32 domain);
    /// @notice The message is not for the token messenger, so that nothing vouches for its body.
    error NotBurnMessage(bytes32 recipient);
    /// @notice The burn is not the counterpart's.
    error ForeignShipment(bytes32 messageSender, bytes32 remote);
    /// @notice The burn mints to somebody else.
    error ShipmentForAnother(bytes32 mintRecipient);
    /// @notice The message was not delivered.
    error MessageRefused(bytes32 nonce);
    /// @notice Less arrived than what was sent less the fee.
    error ArrivedShort(uint256 sent, uint256 fee, uint256 arrived);

    // --- vault -----------------------------------------------------------------------------------------------------

    /// @notice The token is not taken as collateral here.
    error TokenNotListed(address token);
    /// @notice The transfer brought nothing.
    error NothingArrived(address token);
    /// @notice More than the account holds of the token.
    error InsufficientBalance(bytes32 accountId, address token, uint256 balance, uint256 asked);
    /// @notice More settlement token than this chain's vault holds, less what it owes other chains where the tokens
    /// are for an account or an integrator.
    error InsufficientHeld(uint256 held, uint256 asked);
    /// @notice Only the clearing house moves balances and ships.
    error NotClearingHouse(address caller);
    /// @notice Only the bridge hands over arrivals.
    error NotBridge(address caller);
    /// @notice This chain was deployed without a bridge.
    error NoBridge();
    /// @notice A bridge brings at most what was sent.
    error ArrivedMoreThanSent(uint256 sent, uint256 arrived);
    /// @notice An account links at most so many chains.
    error TooManyChains(uint256 given, uint256 max);
    /// @notice Only a chain that the account names here is taken out.
    error NotLinked(bytes32 accountId, uint64 chainId);
    /// @notice Chain ids are not zero.
    error BadChain(uint64 chainId);

    // --- clearing house --------------------------------------------------------------------------------------------

    /// @notice Only the vault moves cash in and out.
    error NotVault(address caller);
    /// @notice The orders are for different assets.
    error AssetMismatch(bytes32 maker, bytes32 taker);
    /// @notice Not an instrument that trades here.
    error NotTradable(bytes32 asset);
    /// @notice A move from an account to itself.
    error SameAccount(bytes32 accountId);
    /// @notice Cash is moved the other way by naming the accounts the other way.
    error NegativeAmount(int256 amount);
    /// @notice Both orders are one owner's.
    error SelfMatch(address owner);
    /// @notice The sides do not fit: the match has the maker's side, the taker the other.
    error SideMismatch(int256 matchSize, int256 makerSize, int256 takerSize);
    /// @notice The order's deadline has passed.
    error OrderExpired(bytes32 orderHash, uint64 deadline, uint256 blockTime);
    /// @notice Its owner cancelled the order's nonce.
    error OrderIsCancelled(bytes32 accountId, uint256 nonce);
    /// @notice The order names another submitter.
    error NotSubmitter(address submitter, address caller);
    /// @notice More than is left of the order.
    error Overfill(bytes32 orderHash, uint256 filled, uint256 size, uint256 orderSize);
    /// @notice The price is beyond the order's limit.
    error LimitExceeded(bytes32 orderHash, uint256 price, uint256 limitPrice);
    /// @notice The fee per unit is above what the order allows.
    error FeeAboveMax(bytes32 orderHash, uint256 fee, uint256 maxFee);
    /// @notice The price is too far from the mark. `band` is a fraction of 1e18.
    error PriceOutsideBand(uint256 price, uint256 mark, uint256 band);
    /// @notice The mark is another asset's.
    error MarkAssetMismatch(bytes32 asset, bytes32 markAsset);
    /// @notice The order was not signed by its account's owner.
    error OrderSignatureInvalid(bytes32 accountId, address recovered);
    /// @notice An account holds at most so many instruments on a chain.
    error TooManyInstruments(bytes32 accountId, uint256 max);

    // --- funding and expiry ----------------------------------------------------------------------------------------

    /// @notice The funding index moved further than the clamp allows since it was stored.
    error FundingJump(bytes32 asset, int256 from, int256 to, uint256 most);
    /// @notice Only perpetuals have funding.
    error NotPerpetual(bytes32 asset);
    /// @notice An expired instrument only settles.
    error InstrumentExpired(bytes32 asset, uint64 expiry, uint256 blockTime);
    /// @notice The mark is the settlement price of an instrument, at which nothing trades.
    error InstrumentSettled(bytes32 asset);
    /// @notice An instrument without expiry has no settlement price.
    error NotDated(bytes32 asset);
    /// @notice The instrument has not expired yet.
    error NotExpired(bytes32 asset, uint64 expiry, uint256 blockTime);
    /// @notice The mark is not the one at which the instrument settles.
    error NotSettlementMark(bytes32 asset, uint64 settledAt, uint64 expiry);
    /// @notice An instrument has one settlement price ever, and it is another.
    error SettlementPriceConflict(bytes32 asset, uint256 fixed_, uint256 given);
    /// @notice No settlement price was fixed yet.
    error SettlementPriceUnknown(bytes32 asset);

    // --- settlement between chains ---------------------------------------------------------------------------------

    /// @notice Every leaf comes with its proof.
    error LengthMismatch(uint256 leaves, uint256 proofs);
    /// @notice A settlement entry is applied once.
    error SettlementAlreadyApplied(uint64 cycle, bytes32 accountId);
    /// @notice A shipment is negative, in whole token amounts, and to another chain.
    error BadShipment(int256 delta);
    /// @notice Only the reservations turn a reservation into a claim.
    error NotReservations(address caller);

    // --- liquidation -----------------------------------------------------------------------------------------------

    /// @notice An account does not take over its own position.
    error SelfLiquidation(bytes32 accountId);
    /// @notice The leg is for a named counterparty only.
    error LegNamesCounterparty(bytes32 counterparty);
    /// @notice The account was topped up to the leg's target.
    error LegVoid(uint256 deposited, uint256 depositTarget);
    /// @notice There is no position on the leg's side.
    error LegSideMismatch(int256 position, int256 closeLimit);
    /// @notice More than the leg leaves to close.
    error LegExhausted(uint256 closed, uint256 size, uint256 closeLimit);
    /// @notice More than the present position.
    error ExceedsPosition(uint256 size, uint256 position);
    /// @notice Only a leg with a counterparty is executed without a taker.
    error LegWithoutCounterparty();
    /// @notice The counterparty does not hold so much of the opposite side.
    error CounterpartyPosition(bytes32 counterparty, int256 position, uint256 size);

    // --- reservations ----------------------------------------------------------------------------------------------

    /// @notice The reservation would end before it begins.
    error ReservationInPast(uint64 until, uint256 blockTime);
    /// @notice Only the account's owner, or the submitter that the action names, may reserve. Zero names nobody.
    error NotOwnerOrSubmitter(bytes32 accountId, address submitter, address sender);
    /// @notice Anyone may send a clearance: it names no submitter.
    error ClearanceNamesSubmitter(address submitter);
    /// @notice What has an end is a reservation, and clears no claim.
    error NotAClearance(uint64 until);
    /// @notice The cash part is at most the amount.
    error CashPartExceedsAmount(uint256 cashPart, uint256 amount);
    /// @notice More than is reserved.
    error ReleaseExceeds(uint256 amount, uint256 reserved);
    /// @notice More than is reserved.
    error ClaimExceeds(uint256 amount, uint256 reserved);
}
