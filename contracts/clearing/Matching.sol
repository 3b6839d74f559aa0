// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

import {IClearingHouse} from "../interfaces/IClearingHouse.sol";
import {AccountLib} from "../libraries/AccountLib.sol";
import {AssetLib} from "../libraries/AssetLib.sol";
import {Errors} from "../libraries/Errors.sol";
import {Events} from "../libraries/Events.sol";
import {HashLib} from "../libraries/HashLib.sol";
import {MarkLeaf, Move, Order, Permit, Trade} from "../libraries/Types.sol";
import {Ledger} from "./Ledger.sol";

/// @title Matching
/// @notice What owners do on purpose: trade by signed orders, and move between their own accounts.
abstract contract Matching is Ledger {
    using Math for uint256;
    using SignedMath for int256;
    using AssetLib for bytes32;

    /// @inheritdoc IClearingHouse
    mapping(bytes32 orderHash => uint256) public filledOf;

    mapping(bytes32 accountId => mapping(uint256 word => uint256 bits)) private _cancelled;

    // --- matching --------------------------------------------------------------------------------------------------

    /// @inheritdoc IClearingHouse
    function matchOrders(Match calldata m) external {
        _checkSides(m);
        uint64 timestamp = _checkMark(m);
        uint256 size = m.size.abs();
        // Each side pays its fee in full units of the smallest amount, rounded up: against the one who acts.
        uint256 notional = size.mulDiv(m.price, UNIT, Math.Rounding.Ceil);
        uint256 fee = notional.mulDiv(FEE_RATE, UNIT, Math.Rounding.Ceil);
        bytes32 makerHash = _checkOrder(m.maker, m.makerSignature, size, m.price);
        bytes32 takerHash = _checkOrder(m.taker, m.takerSignature, size, m.price);
        _consume(
            m.permit,
            m.permitSignatures,
            m.maker.accountId,
            m.taker.accountId,
            HashLib.hash(Trade(makerHash, takerHash, m.size, m.price))
        );
        _fill(makerHash, size);
        _fill(takerHash, size);
        if (m.mark.asset.isPerpetual()) _syncFunding(m.mark, timestamp);

        (bytes32 buyer, bytes32 seller) =
            m.size > 0 ? (m.maker.accountId, m.taker.accountId) : (m.taker.accountId, m.maker.accountId);
        _exchange(buyer, seller, m.maker.asset, size, m.price);
        _pay(buyer, AccountLib.FEES, fee);
        _pay(seller, AccountLib.FEES, fee);
        emit Events.Matched(m.maker.asset, m.maker.accountId, m.taker.accountId, m.size, m.price, fee, fee);
    }

    /// @inheritdoc IClearingHouse
    function move(
        Move calldata action,
        MarkLeaf calldata mark,
        bytes32[] calldata markProof,
        Permit calldata permit,
        bytes calldata permitSignatures
    ) external {
        AccountLib.requireOwner(action.from);
        AccountLib.requireOwner(action.to);
        if (action.from == action.to) revert Errors.SameAccount(action.from);
        if (action.amount == 0) revert Errors.ZeroAmount();
        uint64 timestamp;
        if (action.asset == 0) {
            if (action.amount < 0) revert Errors.NegativeAmount(action.amount);
        } else {
            timestamp = _checkInstrumentMark(action.asset, mark, markProof);
        }
        _consume(permit, permitSignatures, action.from, action.to, HashLib.hash(action));

        if (action.asset == 0) {
            _pay(action.from, action.to, action.amount.abs());
            emit Events.Moved(action.from, action.to, 0, action.amount, 0);
        } else {
            if (action.asset.isPerpetual()) _syncFunding(mark, timestamp);
            (bytes32 buyer, bytes32 seller) = action.amount > 0 ? (action.to, action.from) : (action.from, action.to);
            _exchange(buyer, seller, action.asset, action.amount.abs(), mark.price);
            emit Events.Moved(action.from, action.to, action.asset, action.amount, mark.price);
        }
    }

    /// @inheritdoc IClearingHouse
    function cancelOrder(bytes32 accountId, uint256 nonce) external {
        AccountLib.requireOwner(accountId);
        _cancelled[accountId][nonce >> 8] |= 1 << (nonce & 0xff);
        emit Events.OrderCancelled(accountId, nonce);
    }

    function _checkSides(Match calldata m) private pure {
        if (m.maker.asset != m.taker.asset) revert Errors.AssetMismatch(m.maker.asset, m.taker.asset);
        address owner = AccountLib.ownerOf(m.maker.accountId);
        if (owner == AccountLib.ownerOf(m.taker.accountId)) revert Errors.SelfMatch(owner);
        if (m.size == 0) revert Errors.ZeroAmount();
        bool makerBuys = m.size > 0;
        if (makerBuys ? (m.maker.size <= 0 || m.taker.size >= 0) : (m.maker.size >= 0 || m.taker.size <= 0)) {
            revert Errors.SideMismatch(m.size, m.maker.size, m.taker.size);
        }
    }

    function _checkMark(Match calldata m) private view returns (uint64 timestamp) {
        timestamp = _checkInstrumentMark(m.maker.asset, m.mark, m.markProof);
        uint256 mark = m.mark.price;
        uint256 distance = m.price > mark ? m.price - mark : mark - m.price;
        if (distance > mark.mulDiv(PRICE_BAND, UNIT)) revert Errors.PriceOutsideBand(m.price, mark, PRICE_BAND);
    }

    /// @return Timestamp of the batch that has the mark.
    function _checkInstrumentMark(
        bytes32 asset,
        MarkLeaf calldata mark,
        bytes32[] calldata proof
    ) private view returns (uint64) {
        _requireTradable(asset);
        if (mark.asset != asset) revert Errors.MarkAssetMismatch(asset, mark.asset);
        if (mark.settledAt != 0) revert Errors.InstrumentSettled(asset);
        return VERIFIER.checkMark(mark, proof, MAX_AGE);
    }

    function _checkOrder(
        Order calldata order,
        bytes calldata signature,
        uint256 size,
        uint256 price
    ) private view returns (bytes32 hash) {
        hash = HashLib.hash(order);
        if (order.deadline < block.timestamp) revert Errors.OrderExpired(hash, order.deadline, block.timestamp);
        if (_cancelled[order.accountId][order.nonce >> 8] & (1 << (order.nonce & 0xff)) != 0) {
            revert Errors.OrderIsCancelled(order.accountId, order.nonce);
        }
        if (order.submitter != address(0) && order.submitter != msg.sender) {
            revert Errors.NotSubmitter(order.submitter, msg.sender);
        }
        uint256 filled = filledOf[hash];
        if (filled + size > order.size.abs()) revert Errors.Overfill(hash, filled, size, order.size.abs());
        if (order.size > 0 ? price > order.limitPrice : price < order.limitPrice) {
            revert Errors.LimitExceeded(hash, price, order.limitPrice);
        }
        uint256 feePerUnit = price.mulDiv(FEE_RATE, UNIT, Math.Rounding.Ceil);
        if (feePerUnit > order.maxFee) revert Errors.FeeAboveMax(hash, feePerUnit, order.maxFee);

        bytes32 separator = HashLib.chainDomain(NAME_HASH, VERSION_HASH, block.chainid, address(this));
        (address signer, ECDSA.RecoverError err,) = ECDSA.tryRecoverCalldata(HashLib.digest(separator, hash), signature);
        if (err != ECDSA.RecoverError.NoError || signer != AccountLib.ownerOf(order.accountId)) {
            revert Errors.OrderSignatureInvalid(order.accountId, signer);
        }
    }

    function _fill(bytes32 orderHash, uint256 size) private {
        uint256 filled = filledOf[orderHash] + size;
        filledOf[orderHash] = filled;
        emit Events.FilledSet(orderHash, filled);
    }
}
