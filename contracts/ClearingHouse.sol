// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

import {IClearingHouse} from "./interfaces/IClearingHouse.sol";
import {ICollateralVault} from "./interfaces/ICollateralVault.sol";
import {IMarginVerifier} from "./interfaces/IMarginVerifier.sol";
import {AccountLib} from "./libraries/AccountLib.sol";
import {AssetLib} from "./libraries/AssetLib.sol";
import {Errors} from "./libraries/Errors.sol";
import {Events} from "./libraries/Events.sol";
import {HashLib} from "./libraries/HashLib.sol";
import {LiquidationLeaf, MarkLeaf, Move, Order, Permit, Takeover, Trade} from "./libraries/Types.sol";

/// @title ClearingHouse
/// @notice The central counterparty of one chain: all cash, all positions, and their liquidation.
/// @dev Immutable and without an owner. Calls only the verifier and the vault of its own deployment. There are no
/// entry prices: a fill books size and −size × price at once, so mark to market is cash + Σ size × mark.
/// Carries CM-30, CM-31, CM-40 and CM-42.
contract ClearingHouse is IClearingHouse {
    using Math for uint256;
    using SafeCast for uint256;
    using SignedMath for int256;
    using AssetLib for bytes32;

    /// @notice Constructor arguments. Fractions of 1e18, USD 1e18, seconds.
    struct Config {
        string name;
        string version;
        IMarginVerifier verifier;
        ICollateralVault vault;
        uint256 priceBand;
        uint256 feeRate;
        uint256 flatFee;
        uint64 rampSeconds;
        uint64 maxAge;
    }

    uint256 private constant UNIT = 1e18;
    /// @notice Most instruments an account holds on this chain; with the vault's tokens it stays below 64 assets.
    uint256 public constant MAX_INSTRUMENTS = 48;

    IMarginVerifier public immutable VERIFIER;
    ICollateralVault public immutable VAULT;
    /// @notice How far from the mark a match may be priced, fraction of 1e18.
    uint256 public immutable PRICE_BAND;
    /// @notice Fee of each side of a match, fraction of 1e18 of its notional.
    uint256 public immutable FEE_RATE;
    /// @notice Paid by a liquidated account for a whole leg, USD 1e18; a part of the leg pays that part of it.
    uint256 public immutable FLAT_FEE;
    /// @notice Seconds in which a leg's concession ripens.
    uint64 public immutable RAMP_SECONDS;
    /// @notice Oldest marks that trades and liquidations accept, seconds.
    uint64 public immutable MAX_AGE;

    bytes32 private immutable NAME_HASH;
    bytes32 private immutable VERSION_HASH;

    /// @inheritdoc IClearingHouse
    mapping(bytes32 accountId => int256) public cashOf;
    /// @inheritdoc IClearingHouse
    mapping(bytes32 accountId => mapping(bytes32 asset => int256)) public positionOf;
    /// @inheritdoc IClearingHouse
    mapping(bytes32 accountId => mapping(bytes32 asset => uint256)) public closedOf;
    /// @inheritdoc IClearingHouse
    mapping(bytes32 orderHash => uint256) public filledOf;
    /// @inheritdoc IClearingHouse
    int256 public totalCash;

    mapping(bytes32 accountId => uint256) private _instruments;
    mapping(bytes32 accountId => mapping(uint256 word => uint256 bits)) private _cancelled;

    /// @notice Refuses configurations that no honest deployment has.
    constructor(Config memory config) {
        if (address(config.verifier) == address(0)) revert Errors.BadConfiguration("verifier");
        if (address(config.vault) == address(0)) revert Errors.BadConfiguration("vault");
        if (config.priceBand > UNIT) revert Errors.BadConfiguration("priceBand");
        if (config.feeRate > UNIT / 100) revert Errors.BadConfiguration("feeRate");
        if (config.rampSeconds == 0) revert Errors.BadConfiguration("rampSeconds");
        VERIFIER = config.verifier;
        VAULT = config.vault;
        PRICE_BAND = config.priceBand;
        FEE_RATE = config.feeRate;
        FLAT_FEE = config.flatFee;
        RAMP_SECONDS = config.rampSeconds;
        MAX_AGE = config.maxAge;
        NAME_HASH = keccak256(bytes(config.name));
        VERSION_HASH = keccak256(bytes(config.version));
    }

    // --- matching --------------------------------------------------------------------------------------------------

    /// @inheritdoc IClearingHouse
    function matchOrders(Match calldata m) external {
        _checkSides(m);
        _checkMark(m);
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

        (bytes32 buyer, bytes32 seller) =
            m.size > 0 ? (m.maker.accountId, m.taker.accountId) : (m.taker.accountId, m.maker.accountId);
        _exchange(buyer, seller, m.maker.asset, size, notional, size.mulDiv(m.price, UNIT));
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
        uint256 size = action.amount.abs();
        if (action.asset != 0) {
            if (!action.asset.isPerpetual()) revert Errors.NotTradable(action.asset);
            if (mark.asset != action.asset) revert Errors.MarkAssetMismatch(action.asset, mark.asset);
            VERIFIER.checkMark(mark, markProof, MAX_AGE);
        } else if (action.amount < 0) {
            revert Errors.NegativeAmount(action.amount);
        }
        _consume(permit, permitSignatures, action.from, action.to, HashLib.hash(action));

        if (action.asset == 0) {
            _pay(action.from, action.to, size);
            emit Events.Moved(action.from, action.to, 0, action.amount, 0);
        } else {
            _movePosition(action, size, mark.price);
        }
    }

    function _movePosition(Move calldata action, uint256 size, uint256 price) private {
        (bytes32 buyer, bytes32 seller) = action.amount > 0 ? (action.to, action.from) : (action.from, action.to);
        uint256 cost = size.mulDiv(price, UNIT, Math.Rounding.Ceil);
        _exchange(buyer, seller, action.asset, size, cost, size.mulDiv(price, UNIT));
        emit Events.Moved(action.from, action.to, action.asset, action.amount, price);
    }

    /// @inheritdoc IClearingHouse
    function cancelOrder(bytes32 accountId, uint256 nonce) external {
        AccountLib.requireOwner(accountId);
        _cancelled[accountId][nonce >> 8] |= 1 << (nonce & 0xff);
        emit Events.OrderCancelled(accountId, nonce);
    }

    function _checkSides(Match calldata m) private pure {
        if (m.maker.asset != m.taker.asset) revert Errors.AssetMismatch(m.maker.asset, m.taker.asset);
        if (!m.maker.asset.isPerpetual()) revert Errors.NotTradable(m.maker.asset);
        address owner = AccountLib.ownerOf(m.maker.accountId);
        if (owner == AccountLib.ownerOf(m.taker.accountId)) revert Errors.SelfMatch(owner);
        if (m.size == 0) revert Errors.ZeroAmount();
        bool makerBuys = m.size > 0;
        if (makerBuys ? (m.maker.size <= 0 || m.taker.size >= 0) : (m.maker.size >= 0 || m.taker.size <= 0)) {
            revert Errors.SideMismatch(m.size, m.maker.size, m.taker.size);
        }
    }

    function _checkMark(Match calldata m) private view {
        if (m.mark.asset != m.maker.asset) revert Errors.MarkAssetMismatch(m.maker.asset, m.mark.asset);
        uint256 mark = m.mark.price;
        uint256 distance = m.price > mark ? m.price - mark : mark - m.price;
        if (distance > mark.mulDiv(PRICE_BAND, UNIT)) revert Errors.PriceOutsideBand(m.price, mark, PRICE_BAND);
        VERIFIER.checkMark(m.mark, m.markProof, MAX_AGE);
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

    // --- liquidation -----------------------------------------------------------------------------------------------

    /// @inheritdoc IClearingHouse
    function liquidate(
        LiquidationLeaf calldata leg,
        bytes32[] calldata proof,
        bytes32 taker,
        uint256 size,
        Permit calldata permit,
        bytes calldata permitSignatures
    ) external {
        AccountLib.requireOwner(taker);
        if (taker == leg.accountId) revert Errors.SelfLiquidation(taker);
        if (leg.counterparty != 0) revert Errors.LegNamesCounterparty(leg.counterparty);
        if (!leg.asset.isPerpetual()) revert Errors.NotTradable(leg.asset);
        if (size == 0) revert Errors.ZeroAmount();
        uint64 clockStart = VERIFIER.checkLeg(leg, proof, MAX_AGE);
        _checkLeg(leg, size);
        bytes32 action = HashLib.hash(Takeover(taker, leg.accountId, leg.asset, size));
        _consume(permit, permitSignatures, taker, 0, action);

        uint256 closed = closedOf[leg.accountId][leg.asset] + size;
        closedOf[leg.accountId][leg.asset] = closed;
        emit Events.ClosedSet(leg.accountId, leg.asset, closed);
        _takeOver(leg, taker, size, _concession(leg.maxConcession, clockStart));
    }

    /// @dev CM-40: what a leg closes is cumulative, never more than the position, never on the other side.
    function _checkLeg(LiquidationLeaf calldata leg, uint256 size) private view {
        uint256 deposited = VAULT.depositedOf(leg.accountId);
        if (deposited >= leg.depositTarget) revert Errors.LegVoid(deposited, leg.depositTarget);
        int256 position = positionOf[leg.accountId][leg.asset];
        if (position == 0 || (position > 0) != (leg.closeLimit > 0)) {
            revert Errors.LegSideMismatch(position, leg.closeLimit);
        }
        uint256 limit = leg.closeLimit.abs();
        uint256 closed = closedOf[leg.accountId][leg.asset];
        if (closed + size > limit) revert Errors.LegExhausted(closed, size, limit);
        if (size > position.abs()) revert Errors.ExceedsPosition(size, position.abs());
    }

    /// @dev From zero to `maxConcession` in RAMP_SECONDS, USD per unit, rounded down: against the taker.
    function _concession(uint256 maxConcession, uint64 clockStart) private view returns (uint256) {
        if (block.timestamp <= clockStart) return 0;
        return maxConcession.mulDiv(Math.min(block.timestamp - clockStart, RAMP_SECONDS), RAMP_SECONDS);
    }

    /// @dev CM-42: what the account loses, the taker and the fund gain. A taker of a long buys it at the mark less
    /// the concession, a taker of a short is paid the mark and the concession for it.
    function _takeOver(LiquidationLeaf calldata leg, bytes32 taker, uint256 size, uint256 concession) private {
        uint256 price;
        if (leg.closeLimit > 0) {
            price = leg.markPrice > concession ? leg.markPrice - concession : 0;
            _exchange(
                taker,
                leg.accountId,
                leg.asset,
                size,
                size.mulDiv(price, UNIT, Math.Rounding.Ceil),
                size.mulDiv(price, UNIT)
            );
        } else {
            price = leg.markPrice + concession;
            _exchange(
                leg.accountId,
                taker,
                leg.asset,
                size,
                size.mulDiv(price, UNIT, Math.Rounding.Ceil),
                size.mulDiv(price, UNIT)
            );
        }
        uint256 flatFee = FLAT_FEE.mulDiv(size, leg.closeLimit.abs());
        _pay(leg.accountId, taker, flatFee);
        int256 closing = leg.closeLimit > 0 ? -size.toInt256() : size.toInt256();
        emit Events.Liquidated(leg.accountId, leg.asset, taker, closing, price, concession, flatFee);
    }

    // --- cash ------------------------------------------------------------------------------------------------------

    /// @inheritdoc IClearingHouse
    function credit(bytes32 accountId, uint256 amount) external {
        if (msg.sender != address(VAULT)) revert Errors.NotVault(msg.sender);
        totalCash += amount.toInt256();
        _addCash(accountId, amount.toInt256());
    }

    /// @inheritdoc IClearingHouse
    function debit(bytes32 accountId, uint256 amount) external {
        if (msg.sender != address(VAULT)) revert Errors.NotVault(msg.sender);
        totalCash -= amount.toInt256();
        _addCash(accountId, -amount.toInt256());
    }

    /// @dev Novation: `size` goes from seller to buyer. The buyer pays `cost`, the seller receives `proceeds`, which
    /// is never more; what rounding leaves is the fund's. So sizes sum to zero (CM-31) and cash is conserved (CM-30).
    function _exchange(
        bytes32 buyer,
        bytes32 seller,
        bytes32 asset,
        uint256 size,
        uint256 cost,
        uint256 proceeds
    ) private {
        _addPosition(buyer, asset, size.toInt256());
        _addPosition(seller, asset, -size.toInt256());
        _pay(buyer, seller, proceeds);
        _pay(buyer, AccountLib.FUND, cost - proceeds);
    }

    function _pay(bytes32 from, bytes32 to, uint256 amount) private {
        if (amount == 0) return;
        _addCash(from, -amount.toInt256());
        _addCash(to, amount.toInt256());
    }

    function _addCash(bytes32 accountId, int256 amount) private {
        int256 cash = cashOf[accountId] + amount;
        cashOf[accountId] = cash;
        emit Events.CashSet(accountId, cash);
    }

    function _addPosition(bytes32 accountId, bytes32 asset, int256 change) private {
        int256 before = positionOf[accountId][asset];
        int256 position = before + change;
        positionOf[accountId][asset] = position;
        if (before == 0) {
            if (++_instruments[accountId] > MAX_INSTRUMENTS) {
                revert Errors.TooManyInstruments(accountId, MAX_INSTRUMENTS);
            }
        } else if (position == 0) {
            --_instruments[accountId];
        }
        emit Events.PositionSet(accountId, asset, position);
    }

    function _consume(
        Permit calldata permit,
        bytes calldata signatures,
        bytes32 accountId,
        bytes32 counterpartyId,
        bytes32 action
    ) private {
        if (permit.accountId != accountId || permit.counterpartyId != counterpartyId) {
            revert Errors.PermitAccountMismatch(permit.accountId, permit.counterpartyId);
        }
        if (permit.actionHash != action) revert Errors.ActionMismatch(action, permit.actionHash);
        VERIFIER.consumePermit(permit, signatures);
    }
}
