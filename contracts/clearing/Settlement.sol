// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

import {IClearingHouse} from "../interfaces/IClearingHouse.sol";
import {AccountLib} from "../libraries/AccountLib.sol";
import {AssetLib} from "../libraries/AssetLib.sol";
import {Errors} from "../libraries/Errors.sol";
import {Events} from "../libraries/Events.sol";
import {MarkLeaf, SettlementLeaf} from "../libraries/Types.sol";
import {Ledger} from "./Ledger.sol";

/// @title Settlement
/// @notice What ends a position or a debt: expiry at one price, cash netted between chains, claims of integrators.
/// @dev Carries CM-30 and what CM-50 does on chain.
abstract contract Settlement is Ledger, ReentrancyGuardTransient {
    using Math for uint256;
    using SafeCast for uint256;
    using SignedMath for int256;
    using AccountLib for bytes32;
    using AssetLib for bytes32;

    /// @dev A price can be zero, so whether it is fixed is told beside it.
    struct SettlementPrice {
        bool fixed_;
        uint256 price;
    }

    /// @inheritdoc IClearingHouse
    mapping(bytes32 asset => SettlementPrice) public settlementPriceOf;
    /// @inheritdoc IClearingHouse
    int256 public claims;

    mapping(bytes32 accountId => mapping(uint256 word => uint256 bits)) private _applied;

    // --- expiry ----------------------------------------------------------------------------------------------------

    /// @inheritdoc IClearingHouse
    function fixSettlement(MarkLeaf calldata mark, bytes32[] calldata proof) external {
        bytes32 asset = mark.asset;
        uint64 expiry = asset.expiryOf();
        if (!asset.isInstrument() || expiry == 0) revert Errors.NotDated(asset);
        if (block.timestamp < expiry) revert Errors.NotExpired(asset, expiry, block.timestamp);
        if (mark.settledAt != expiry) revert Errors.NotSettlementMark(asset, mark.settledAt, expiry);
        VERIFIER.checkMark(mark, proof, type(uint256).max);

        SettlementPrice storage settlement = settlementPriceOf[asset];
        if (settlement.fixed_) {
            if (settlement.price == mark.price) return;
            revert Errors.SettlementPriceConflict(asset, settlement.price, mark.price);
        }
        (settlement.fixed_, settlement.price) = (true, mark.price);
        emit Events.SettlementPriceSet(asset, mark.price);
    }

    /// @inheritdoc IClearingHouse
    /// @dev What rounding leaves stays with the clearing account, so it always covers those who are not settled yet.
    function settleExpired(bytes32 asset, bytes32[] calldata accountIds) external {
        SettlementPrice memory settlement = settlementPriceOf[asset];
        if (!settlement.fixed_) revert Errors.SettlementPriceUnknown(asset);
        for (uint256 i; i < accountIds.length; ++i) {
            bytes32 accountId = accountIds[i];
            int256 size = positionOf[accountId][asset];
            if (size == 0 || accountId == AccountLib.CLEARING) continue;
            _addPosition(accountId, asset, -size);
            _addPosition(AccountLib.CLEARING, asset, size);
            if (size > 0) {
                _pay(AccountLib.CLEARING, accountId, size.abs().mulDiv(settlement.price, UNIT));
            } else {
                _pay(accountId, AccountLib.CLEARING, size.abs().mulDiv(settlement.price, UNIT, Math.Rounding.Ceil));
            }
            emit Events.Settled(accountId, asset, size, settlement.price);
        }
    }

    // --- between chains --------------------------------------------------------------------------------------------

    /// @inheritdoc IClearingHouse
    function applySettlement(SettlementLeaf[] calldata leaves, bytes32[][] calldata proofs) external nonReentrant {
        if (leaves.length != proofs.length) revert Errors.LengthMismatch(leaves.length, proofs.length);
        for (uint256 i; i < leaves.length; ++i) {
            SettlementLeaf calldata leaf = leaves[i];
            if (isApplied(leaf.cycle, leaf.accountId)) {
                revert Errors.SettlementAlreadyApplied(leaf.cycle, leaf.accountId);
            }
            VERIFIER.checkSettlement(leaf, proofs[i]);
            _applied[leaf.accountId][leaf.cycle >> 8] |= 1 << (leaf.cycle & 0xff);
            emit Events.SettlementApplied(leaf.cycle, leaf.accountId, leaf.cashDelta);
            if (leaf.accountId.transferTarget() != 0) _ship(leaf);
            else _applyDelta(leaf.accountId, leaf.cashDelta);
        }
    }

    /// @inheritdoc IClearingHouse
    function isApplied(uint64 cycle, bytes32 accountId) public view returns (bool) {
        return _applied[accountId][cycle >> 8] & (1 << (cycle & 0xff)) != 0;
    }

    /// @dev The ledger's sum changes with what it may claim elsewhere, so both sides of CM-30 move together.
    function _applyDelta(bytes32 accountId, int256 delta) private {
        if (accountId.ownerOf() == address(0) && !accountId.isReserved()) revert Errors.NoOwner(accountId);
        if (accountId.isClaims()) revert Errors.ClaimsAccount(accountId);
        _setClaims(claims + delta);
        _addOutside(accountId, delta);
    }

    /// @dev Tokens held become a claim on the chain they go to; no account's cash changes. Reverts, and so waits, while
    /// they are not here.
    function _ship(SettlementLeaf calldata leaf) private {
        uint64 toChain = leaf.accountId.transferTarget();
        uint256 scale = VAULT.scaleOf(VAULT.SETTLEMENT_TOKEN());
        uint256 value = leaf.cashDelta.abs();
        if (leaf.cashDelta >= 0 || value % scale != 0 || toChain == block.chainid) {
            revert Errors.BadShipment(leaf.cashDelta);
        }
        _setClaims(claims + value.toInt256());
        VAULT.ship(toChain, value / scale);
    }

    /// @inheritdoc IClearingHouse
    function received(uint256 sent, uint256 arrived) external {
        _requireVault();
        _setClaims(claims - sent.toInt256());
        if (sent != arrived) _addOutside(AccountLib.FUND, -(sent - arrived).toInt256());
    }

    function _setClaims(int256 value) private {
        claims = value;
        emit Events.ClaimsSet(value);
    }

    // --- integrators -----------------------------------------------------------------------------------------------

    /// @inheritdoc IClearingHouse
    function claim(bytes32 accountId, bytes32 claimsAccount, uint256 amount) external {
        if (msg.sender != RESERVATIONS) revert Errors.NotReservations(msg.sender);
        _pay(accountId, claimsAccount, amount);
    }
}
