// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Reservation} from "./Types.sol";

/// @title Events
/// @notice What followers rebuild the state from. The `…Set` events carry the value after the change, so a state is
/// the last value of every key; the others say why it changed.
library Events {
    // --- state, complete: folding these from the first block gives every holding --------------------------------

    /// @notice Cash of an account on this chain is now `cash`, USD 1e18, signed.
    event CashSet(bytes32 indexed accountId, int256 cash);
    /// @notice Size of an instrument an account holds on this chain is now `size`, 1e18, signed.
    event PositionSet(bytes32 indexed accountId, bytes32 indexed asset, int256 size);
    /// @notice Collateral of an account in this vault is now `balance`, token decimals. Never the settlement token.
    event BalanceSet(bytes32 indexed accountId, address indexed token, uint256 balance);
    /// @notice Cumulative size ever liquidated of an account's instrument is now `closed`, 1e18.
    event ClosedSet(bytes32 indexed accountId, bytes32 indexed asset, uint256 closed);
    /// @notice An order is filled up to `filled`, 1e18.
    event FilledSet(bytes32 indexed orderHash, uint256 filled);
    /// @notice The reservation an integrator holds on an account is now this.
    event ReservationSet(bytes32 indexed accountId, address indexed integrator, Reservation reservation);
    /// @notice The owner names `chainId` as a chain of this account.
    event Linked(bytes32 indexed accountId, uint64 indexed chainId);
    /// @notice `chainId` is no chain of this account any more, by its owner and a permit.
    event Unlinked(bytes32 indexed accountId, uint64 indexed chainId);
    /// @notice A permit nonce is spent: its action was executed.
    event NonceUsed(bytes32 indexed accountId, uint256 nonce, bytes32 actionHash);
    /// @notice Settlement token held by the vault for the clearing house is now `held`, token decimals.
    event SettlementHeldSet(uint256 held);
    /// @notice Cumulative settlement token deposited for an account on this chain is now `deposited`, token decimals.
    event DepositedSet(bytes32 indexed accountId, uint256 deposited);
    /// @notice A perpetual's funding index is now `index`, of the batch of `time`: USD 1e18 that one unit long has
    /// paid in total.
    event FundingIndexSet(bytes32 indexed asset, int256 index, uint64 time);
    /// @notice An account has paid and received a perpetual's funding up to `index`.
    event FundingPaidSet(bytes32 indexed accountId, bytes32 indexed asset, int256 index);
    /// @notice The one settlement price of an expired instrument, USD 1e18 per whole unit.
    event SettlementPriceSet(bytes32 indexed asset, uint256 price);
    /// @notice A cycle's entry of an account, or of a shipment, is applied. Its cash is in CashSet.
    event SettlementApplied(uint64 indexed cycle, bytes32 indexed accountId, int256 cashDelta);
    /// @notice Net claim of this chain's ledger on other chains is now `claims`, USD 1e18, signed.
    event ClaimsSet(int256 claims);
    /// @notice What an integrator claimed on an account and was not paid yet is now this, USD 1e18.
    event OwedSet(bytes32 indexed accountId, address indexed integrator, uint256 cash, uint256 rest);

    // --- reasons ---------------------------------------------------------------------------------------------------

    event BatchPosted(uint64 indexed epoch, bytes32 indexed digest, uint64 timestamp, address poster);
    event Proven(
        bytes32 indexed accountId, uint64 epoch, int256 equity, uint256 initialMargin, uint256 maintenanceMargin
    );
    /// @notice The adapter sent a shipment, token decimals; the transaction is what its attestation is asked for by.
    event BridgeSent(uint64 indexed toChain, uint256 amount, uint256 maxFee);
    /// @notice The adapter handed an arrival to the vault, token decimals. `nonce` is the message's.
    event BridgeReceived(uint64 indexed fromChain, bytes32 indexed nonce, uint256 sent, uint256 arrived);
    event Deposited(bytes32 indexed accountId, address indexed token, uint256 amount, address from);
    event Withdrawn(bytes32 indexed accountId, address indexed token, uint256 amount, address receiver);
    event Matched(
        bytes32 indexed asset,
        bytes32 indexed makerId,
        bytes32 indexed takerId,
        int256 size,
        uint256 price,
        uint256 makerFee,
        uint256 takerFee
    );
    event Moved(bytes32 indexed from, bytes32 indexed to, bytes32 indexed asset, int256 amount, uint256 price);
    event OrderCancelled(bytes32 indexed accountId, uint256 nonce);
    event Liquidated(
        bytes32 indexed accountId,
        bytes32 indexed asset,
        bytes32 indexed taker,
        int256 size,
        uint256 price,
        uint256 concession,
        uint256 flatFee,
        uint256 toFund
    );
    /// @notice `size` is signed: what was added to the account, and taken from the counterparty.
    event Deleveraged(
        bytes32 indexed accountId, bytes32 indexed asset, bytes32 indexed counterparty, int256 size, uint256 price
    );
    /// @notice `size` is the position that was settled, signed.
    event Settled(bytes32 indexed accountId, bytes32 indexed asset, int256 size, uint256 price);
    event Shipped(uint64 indexed toChain, uint256 amount);
    event Arrived(uint256 sent, uint256 arrived);
    event Reserved(
        bytes32 indexed accountId, address indexed integrator, uint256 amount, uint256 cashPart, uint64 until
    );
    event Released(bytes32 indexed accountId, address indexed integrator, uint256 amount);
    event Claimed(bytes32 indexed accountId, address indexed integrator, uint256 amount);
    /// @notice `amount` in the settlement token's decimals.
    event PaidOut(bytes32 indexed accountId, address indexed integrator, uint256 amount);
}
