// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

import {IClearingHouse} from "../interfaces/IClearingHouse.sol";
import {ICollateralVault} from "../interfaces/ICollateralVault.sol";
import {IMarginVerifier} from "../interfaces/IMarginVerifier.sol";
import {AccountLib} from "../libraries/AccountLib.sol";
import {AssetLib} from "../libraries/AssetLib.sol";
import {Errors} from "../libraries/Errors.sol";
import {Events} from "../libraries/Events.sol";
import {MarkLeaf, Permit} from "../libraries/Types.sol";

/// @title Ledger
/// @notice The books of one chain: cash, positions, and the funding between them.
/// @dev There are no entry prices: a fill books size and −size × price at once, so mark to market is
/// cash + Σ size × mark. Carries CM-30 and CM-31.
abstract contract Ledger is IClearingHouse {
    using Math for uint256;
    using SafeCast for uint256;
    using SafeCast for int256;
    using SignedMath for int256;
    using AssetLib for bytes32;

    /// @notice Constructor arguments. Fractions of 1e18, USD 1e18, seconds.
    /// @param maxFundingRate Fraction of 1e18 of the mark that the funding index may move in a second.
    /// @param fundShare Fraction of 1e18 of a concession that the taker passes on to the fund.
    struct Config {
        string name;
        string version;
        IMarginVerifier verifier;
        ICollateralVault vault;
        address reservations;
        uint256 priceBand;
        uint256 feeRate;
        uint256 flatFee;
        uint256 fundShare;
        uint256 maxFundingRate;
        uint64 rampSeconds;
        uint64 maxAge;
    }

    /// @dev In one slot: the index of a perpetual, USD 1e18, and the timestamp of the batch it is of.
    struct Funding {
        int192 index;
        uint64 time;
    }

    uint256 internal constant UNIT = 1e18;
    /// @notice Most instruments an account holds on this chain; with the vault's tokens it stays below 64 assets. The
    /// fund and the clearing account may hold more.
    uint256 public constant MAX_INSTRUMENTS = 48;

    IMarginVerifier public immutable VERIFIER;
    ICollateralVault public immutable VAULT;
    address public immutable RESERVATIONS;
    /// @notice How far from the mark a match may be priced, fraction of 1e18.
    uint256 public immutable PRICE_BAND;
    /// @notice Fee of each side of a match, fraction of 1e18 of its notional.
    uint256 public immutable FEE_RATE;
    /// @notice Paid by a liquidated account for a whole leg, USD 1e18; a part of the leg pays that part of it.
    uint256 public immutable FLAT_FEE;
    /// @notice What the taker of a leg passes on to the fund, fraction of 1e18 of the concession.
    uint256 public immutable FUND_SHARE;
    /// @notice How far a perpetual's funding index may move in a second, fraction of 1e18 of its mark.
    uint256 public immutable MAX_FUNDING_RATE;
    /// @notice Seconds in which a leg's concession ripens.
    uint64 public immutable RAMP_SECONDS;
    /// @notice Oldest marks that trades and liquidations accept, seconds.
    uint64 public immutable MAX_AGE;

    bytes32 internal immutable NAME_HASH;
    bytes32 internal immutable VERSION_HASH;

    /// @inheritdoc IClearingHouse
    mapping(bytes32 accountId => int256) public cashOf;
    /// @inheritdoc IClearingHouse
    mapping(bytes32 accountId => mapping(bytes32 asset => int256)) public positionOf;
    /// @inheritdoc IClearingHouse
    mapping(bytes32 accountId => mapping(bytes32 asset => int256)) public fundingPaidOf;
    /// @inheritdoc IClearingHouse
    int256 public totalCash;

    mapping(bytes32 asset => Funding) private _funding;
    mapping(bytes32 accountId => uint256) private _instruments;

    /// @notice Refuses configurations that no honest deployment has.
    constructor(Config memory config) {
        if (address(config.verifier) == address(0)) revert Errors.BadConfiguration("verifier");
        if (address(config.vault) == address(0)) revert Errors.BadConfiguration("vault");
        if (config.reservations == address(0)) revert Errors.BadConfiguration("reservations");
        if (config.priceBand > UNIT) revert Errors.BadConfiguration("priceBand");
        if (config.feeRate > UNIT / 100) revert Errors.BadConfiguration("feeRate");
        if (config.fundShare > UNIT) revert Errors.BadConfiguration("fundShare");
        if (config.rampSeconds == 0) revert Errors.BadConfiguration("rampSeconds");
        VERIFIER = config.verifier;
        VAULT = config.vault;
        RESERVATIONS = config.reservations;
        PRICE_BAND = config.priceBand;
        FEE_RATE = config.feeRate;
        FLAT_FEE = config.flatFee;
        FUND_SHARE = config.fundShare;
        MAX_FUNDING_RATE = config.maxFundingRate;
        RAMP_SECONDS = config.rampSeconds;
        MAX_AGE = config.maxAge;
        NAME_HASH = keccak256(bytes(config.name));
        VERSION_HASH = keccak256(bytes(config.version));
    }

    // --- cash ------------------------------------------------------------------------------------------------------

    /// @inheritdoc IClearingHouse
    function credit(bytes32 accountId, uint256 amount) external {
        _requireVault();
        _addOutside(accountId, amount.toInt256());
    }

    /// @inheritdoc IClearingHouse
    function debit(bytes32 accountId, uint256 amount) external {
        _requireVault();
        _addOutside(accountId, -amount.toInt256());
    }

    function _requireVault() internal view {
        if (msg.sender != address(VAULT)) revert Errors.NotVault(msg.sender);
    }

    function _pay(bytes32 from, bytes32 to, uint256 amount) internal {
        if (amount == 0) return;
        _addCash(from, -amount.toInt256());
        _addCash(to, amount.toInt256());
    }

    function _addCash(bytes32 accountId, int256 amount) internal {
        int256 cash = cashOf[accountId] + amount;
        cashOf[accountId] = cash;
        emit Events.CashSet(accountId, cash);
    }

    /// @dev Adds to an account what comes from outside this ledger's accounts, or goes there.
    function _addOutside(bytes32 accountId, int256 amount) internal {
        totalCash += amount;
        _addCash(accountId, amount);
    }

    // --- positions -------------------------------------------------------------------------------------------------

    /// @dev Novation: `size` goes from seller to buyer at `price`. The buyer pays it rounded up, the seller receives it
    /// rounded down; what rounding leaves is the fund's. So sizes sum to zero (CM-31) and cash is conserved (CM-30).
    function _exchange(bytes32 buyer, bytes32 seller, bytes32 asset, uint256 size, uint256 price) internal {
        _addPosition(buyer, asset, size.toInt256());
        _addPosition(seller, asset, -size.toInt256());
        _payValue(buyer, seller, size, price);
    }

    /// @dev `size` at `price`: rounded up from the buyer, down to the seller, the dust to the fund.
    function _payValue(bytes32 buyer, bytes32 seller, uint256 size, uint256 price) internal {
        uint256 proceeds = size.mulDiv(price, UNIT);
        _pay(buyer, seller, proceeds);
        _pay(buyer, AccountLib.FUND, size.mulDiv(price, UNIT, Math.Rounding.Ceil) - proceeds);
    }

    /// @dev Every change of a position first settles its funding.
    function _addPosition(bytes32 accountId, bytes32 asset, int256 change) internal {
        _touchFunding(accountId, asset);
        int256 before = positionOf[accountId][asset];
        int256 position = before + change;
        positionOf[accountId][asset] = position;
        if (accountId != AccountLib.FUND && accountId != AccountLib.CLEARING) {
            if (before == 0) {
                if (++_instruments[accountId] > MAX_INSTRUMENTS) {
                    revert Errors.TooManyInstruments(accountId, MAX_INSTRUMENTS);
                }
            } else if (position == 0) {
                --_instruments[accountId];
            }
        }
        emit Events.PositionSet(accountId, asset, position);
    }

    /// @dev Refuses what is no instrument, and what has expired: that only settles.
    function _requireTradable(bytes32 asset) internal view {
        if (!asset.isInstrument()) revert Errors.NotTradable(asset);
        uint64 expiry = asset.expiryOf();
        if (expiry != 0 && block.timestamp >= expiry) revert Errors.InstrumentExpired(asset, expiry, block.timestamp);
    }

    // --- funding ---------------------------------------------------------------------------------------------------

    /// @inheritdoc IClearingHouse
    function fundingIndexOf(bytes32 asset) external view returns (int256 index, uint64 time) {
        Funding storage stored = _funding[asset];
        return (stored.index, stored.time);
    }

    /// @inheritdoc IClearingHouse
    function accrue(MarkLeaf calldata mark, bytes32[] calldata proof, bytes32[] calldata accountIds) external {
        if (!mark.asset.isPerpetual()) revert Errors.NotPerpetual(mark.asset);
        _syncFunding(mark, VERIFIER.checkMark(mark, proof, MAX_AGE));
        for (uint256 i; i < accountIds.length; ++i) {
            _touchFunding(accountIds[i], mark.asset);
        }
    }

    /// @dev Takes a perpetual's index from a mark of the batch of `timestamp`, once a batch and only forward. No account
    /// has a position before the first index, so that may be any.
    function _syncFunding(MarkLeaf calldata mark, uint64 timestamp) internal {
        Funding memory stored = _funding[mark.asset];
        if (timestamp <= stored.time) return;
        if (stored.time != 0) {
            uint256 most = (MAX_FUNDING_RATE * (timestamp - stored.time)).mulDiv(mark.price, UNIT);
            if ((mark.fundingIndex - stored.index).abs() > most) {
                revert Errors.FundingJump(mark.asset, stored.index, mark.fundingIndex, most);
            }
        }
        _funding[mark.asset] = Funding(mark.fundingIndex.toInt192(), timestamp);
        emit Events.FundingIndexSet(mark.asset, mark.fundingIndex, timestamp);
    }

    /// @dev Settles an account's funding up to the stored index: it pays rounded up and receives rounded down, so the
    /// clearing account never owes more than what others still owe it.
    function _touchFunding(bytes32 accountId, bytes32 asset) private {
        if (!asset.isPerpetual()) return;
        int256 index = _funding[asset].index;
        int256 change = index - fundingPaidOf[accountId][asset];
        if (change == 0) return;
        fundingPaidOf[accountId][asset] = index;
        emit Events.FundingPaidSet(accountId, asset, index);
        int256 size = positionOf[accountId][asset];
        if ((size > 0) == (change > 0)) {
            _pay(accountId, AccountLib.CLEARING, size.abs().mulDiv(change.abs(), UNIT, Math.Rounding.Ceil));
        } else {
            _pay(AccountLib.CLEARING, accountId, size.abs().mulDiv(change.abs(), UNIT));
        }
    }

    // --- permits ---------------------------------------------------------------------------------------------------

    function _consume(
        Permit calldata permit,
        bytes calldata signatures,
        bytes32 accountId,
        bytes32 counterpartyId,
        bytes32 action
    ) internal {
        if (permit.accountId != accountId || permit.counterpartyId != counterpartyId) {
            revert Errors.PermitAccountMismatch(permit.accountId, permit.counterpartyId);
        }
        if (permit.actionHash != action) revert Errors.ActionMismatch(action, permit.actionHash);
        VERIFIER.consumePermit(permit, signatures);
    }
}
