// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {LiquidationLeaf, MarkLeaf, Move, Order, Permit, SettlementLeaf} from "../libraries/Types.sol";

/// @title IClearingHouse
/// @notice The central counterparty of one chain: all cash and all positions.
interface IClearingHouse {
    /// @notice Everything a match carries.
    /// @param size The maker's side: positive where the maker buys, 1e18.
    /// @param price USD 1e18 per whole unit.
    struct Match {
        Order maker;
        bytes makerSignature;
        Order taker;
        bytes takerSignature;
        int256 size;
        uint256 price;
        MarkLeaf mark;
        bytes32[] markProof;
        Permit permit;
        bytes permitSignatures;
    }

    /// @notice Books one match of two signed orders, permitted for both accounts. Anyone may submit it, or the
    /// submitter an order names.
    function matchOrders(Match calldata m) external;

    /// @notice Moves cash, or a position at its mark, between two accounts of the sender, permitted for both. An
    /// isolated sub-account gets and returns its margin this way.
    /// @param action `asset` zero is cash, USD 1e18, and its amount positive; else `to` gets `amount` of a position,
    /// 1e18, signed, and pays the mark for it: rounded up, `from` receives it rounded down, the fund has the rest.
    /// @param mark Of the position's instrument, no older than MAX_AGE; not read for cash.
    function move(
        Move calldata action,
        MarkLeaf calldata mark,
        bytes32[] calldata markProof,
        Permit calldata permit,
        bytes calldata permitSignatures
    ) external;

    /// @notice Takes a perpetual's funding index from its mark and settles the funding of these accounts. Anyone may.
    /// @param mark No older than MAX_AGE; an older batch than the index stored is of changes nothing.
    function accrue(MarkLeaf calldata mark, bytes32[] calldata proof, bytes32[] calldata accountIds) external;

    /// @notice Cancels every order of the account with this nonce. Only the owner.
    function cancelOrder(bytes32 accountId, uint256 nonce) external;

    /// @notice Takes over `size` of what a leg of the latest batch names, a position or a collateral token of this chain,
    /// at its price now, for the account `taker`, whose owner sends this and whose takeover was permitted.
    /// @param size Unsigned, whole units 1e18; any part of what the leg leaves. Of a token the taker gets the amount
    /// rounded down to its decimals, and pays for `size`.
    function liquidate(
        LiquidationLeaf calldata leg,
        bytes32[] calldata proof,
        bytes32 taker,
        uint256 size,
        Permit calldata permit,
        bytes calldata permitSignatures
    ) external;

    /// @notice Executes a leg against the counterparty it names, at its mark exactly: the fund, which takes what nobody
    /// bid for whatever it holds, or an account with the opposite position. Anyone may; no permit, concession or fee.
    /// @param size As for `liquidate`; of a token, which only the fund takes, what is below its smallest unit is left.
    function deleverage(LiquidationLeaf calldata leg, bytes32[] calldata proof, uint256 size) external;

    /// @notice Fixes the one price at which an expired instrument settles, from its mark of that moment. Anyone may,
    /// any time after; the same again does nothing.
    function fixSettlement(MarkLeaf calldata mark, bytes32[] calldata proof) external;

    /// @notice Settles the whole positions of these accounts in an expired instrument at its settlement price, against
    /// the clearing account. Anyone may, for any accounts in any order; one without a position is passed over.
    function settleExpired(bytes32 asset, bytes32[] calldata accountIds) external;

    /// @notice Applies entries of settlement cycles, each once and in any order: an account's delta to its cash, a
    /// shipment by sending the tokens, which waits while they are not here. Anyone may.
    function applySettlement(SettlementLeaf[] calldata leaves, bytes32[][] calldata proofs) external;

    /// @notice Only the reservations: `amount` (USD 1e18) of an account's cash becomes an integrator's claim.
    function claim(bytes32 accountId, bytes32 claimsAccount, uint256 amount) external;

    /// @notice Only the vault: of `sent` (USD 1e18), which another chain shipped, `arrived` is here. The difference is
    /// the bridge's fee, and the fund's loss.
    function received(uint256 sent, uint256 arrived) external;

    /// @notice Only the vault: settlement token worth `amount` (USD 1e18) arrived for an account.
    function credit(bytes32 accountId, uint256 amount) external;

    /// @notice Only the vault: settlement token worth `amount` (USD 1e18) leaves for an account.
    function debit(bytes32 accountId, uint256 amount) external;

    /// @return Cash of an account on this chain, USD 1e18, signed.
    function cashOf(bytes32 accountId) external view returns (int256);

    /// @return Size of an instrument that an account holds on this chain, 1e18, signed.
    function positionOf(bytes32 accountId, bytes32 asset) external view returns (int256);

    /// @return Size of an instrument or token ever liquidated of an account, 1e18. Only grows.
    function closedOf(bytes32 accountId, bytes32 asset) external view returns (uint256);

    /// @return How far an order is filled, 1e18.
    function filledOf(bytes32 orderHash) external view returns (uint256);

    /// @return Sum of all accounts' cash, reserved ones included, USD 1e18: the settlement token held and `claims`.
    function totalCash() external view returns (int256);

    /// @return Net claim of this chain's ledger on other chains, USD 1e18; negative where it owes them.
    function claims() external view returns (int256);

    /// @return index Funding that one unit long of a perpetual has paid in total, USD 1e18, as stored.
    /// @return time Of the batch it is of, unix seconds; zero where none was stored yet.
    function fundingIndexOf(bytes32 asset) external view returns (int256 index, uint64 time);

    /// @return The funding index up to which an account has paid and received, USD 1e18.
    function fundingPaidOf(bytes32 accountId, bytes32 asset) external view returns (int256);

    /// @return fixed_ Whether the settlement price of an instrument was fixed.
    /// @return price USD 1e18 per whole unit; can be zero.
    function settlementPriceOf(bytes32 asset) external view returns (bool fixed_, uint256 price);

    /// @return Whether a cycle's entry of an account, or of a shipment, was applied here.
    function isApplied(uint64 cycle, bytes32 accountId) external view returns (bool);
}
