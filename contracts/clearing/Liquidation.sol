// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

import {IClearingHouse} from "../interfaces/IClearingHouse.sol";
import {AccountLib} from "../libraries/AccountLib.sol";
import {AssetLib} from "../libraries/AssetLib.sol";
import {Errors} from "../libraries/Errors.sol";
import {Events} from "../libraries/Events.sol";
import {HashLib} from "../libraries/HashLib.sol";
import {LiquidationLeaf, Permit, Takeover} from "../libraries/Types.sol";
import {Ledger} from "./Ledger.sol";

/// @title Liquidation
/// @notice What is closed of an account against its will: by auction, or against the counterparty that a leg names.
/// @dev Carries CM-40 and CM-42, and what CM-43 does on chain.
abstract contract Liquidation is Ledger {
    using Math for uint256;
    using SafeCast for uint256;
    using SignedMath for int256;
    using AssetLib for bytes32;

    /// @inheritdoc IClearingHouse
    mapping(bytes32 accountId => mapping(bytes32 asset => uint256)) public closedOf;

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
        uint64 clockStart = VERIFIER.checkLeg(leg, proof, MAX_AGE);
        _checkLeg(leg, _tokenOf(leg.asset), size);
        bytes32 action = HashLib.hash(Takeover(taker, leg.accountId, leg.asset, size));
        _consume(permit, permitSignatures, taker, 0, action);

        _close(leg, size);
        _takeOver(leg, taker, size, _concession(leg, clockStart));
    }

    /// @inheritdoc IClearingHouse
    function deleverage(LiquidationLeaf calldata leg, bytes32[] calldata proof, uint256 size) external {
        bytes32 counterparty = leg.counterparty;
        if (counterparty == 0) revert Errors.LegWithoutCounterparty();
        if (counterparty == leg.accountId) revert Errors.SelfLiquidation(counterparty);
        address token = _tokenOf(leg.asset);
        // Whoever sends this chooses the size: what is below a token's unit would be paid for and not taken.
        if (token != address(0)) size -= size % VAULT.scaleOf(token);
        VERIFIER.checkLeg(leg, proof, MAX_AGE);
        _checkLeg(leg, token, size);
        if (counterparty != AccountLib.FUND) _checkCounterparty(leg, size);

        _close(leg, size);
        emit Events.Deleveraged(leg.accountId, leg.asset, counterparty, _closing(leg, size), leg.markPrice);
        _deliver(leg, counterparty, size, leg.markPrice);
    }

    // --- checks ----------------------------------------------------------------------------------------------------

    /// @return token The collateral token of this chain that the leg is for; zero for an instrument that has not
    /// expired. Anything else is refused.
    function _tokenOf(bytes32 asset) private view returns (address token) {
        if (!asset.isToken()) {
            _requireTradable(asset);
            return address(0);
        }
        uint64 chainId;
        (chainId, token) = asset.tokenOf();
        if (chainId != block.chainid || !VAULT.isListed(token)) revert Errors.NotTradable(asset);
    }

    /// @dev CM-40: what a leg closes is cumulative, never more than the position, never on the other side. A balance is
    /// a position that is always long.
    function _checkLeg(LiquidationLeaf calldata leg, address token, uint256 size) private view {
        if (size == 0) revert Errors.ZeroAmount();
        uint256 deposited = VAULT.depositedOf(leg.accountId);
        if (deposited >= leg.depositTarget) revert Errors.LegVoid(deposited, leg.depositTarget);
        int256 position = token == address(0)
            ? positionOf[leg.accountId][leg.asset]
            : (VAULT.balanceOf(leg.accountId, token) * VAULT.scaleOf(token)).toInt256();
        if (position == 0 || (position > 0) != (leg.closeLimit > 0)) {
            revert Errors.LegSideMismatch(position, leg.closeLimit);
        }
        uint256 limit = leg.closeLimit.abs();
        uint256 closed = closedOf[leg.accountId][leg.asset];
        if (closed + size > limit) revert Errors.LegExhausted(closed, size, limit);
        if (size > position.abs()) revert Errors.ExceedsPosition(size, position.abs());
    }

    /// @dev The counterparty's own position shrinks by `size`, so it holds as much on the other side. Nobody is on the
    /// other side of a token.
    function _checkCounterparty(LiquidationLeaf calldata leg, uint256 size) private view {
        int256 position = positionOf[leg.counterparty][leg.asset];
        if ((position > 0) == (leg.closeLimit > 0) || position.abs() < size) {
            revert Errors.CounterpartyPosition(leg.counterparty, position, size);
        }
    }

    /// @dev From zero to `maxConcession` in RAMP_SECONDS, USD per unit, rounded down: against the taker. What is bought
    /// costs nothing at least.
    function _concession(LiquidationLeaf calldata leg, uint64 clockStart) private view returns (uint256 concession) {
        if (block.timestamp <= clockStart) return 0;
        concession = leg.maxConcession.mulDiv(Math.min(block.timestamp - clockStart, RAMP_SECONDS), RAMP_SECONDS);
        if (leg.closeLimit > 0) concession = Math.min(concession, leg.markPrice);
    }

    // --- effects ---------------------------------------------------------------------------------------------------

    function _close(LiquidationLeaf calldata leg, uint256 size) private {
        uint256 closed = closedOf[leg.accountId][leg.asset] + size;
        closedOf[leg.accountId][leg.asset] = closed;
        emit Events.ClosedSet(leg.accountId, leg.asset, closed);
    }

    /// @dev CM-42: what the account loses, the taker and the fund gain. A taker of a long buys it at the mark less
    /// the concession, a taker of a short is paid the mark and the concession for it.
    function _takeOver(LiquidationLeaf calldata leg, bytes32 taker, uint256 size, uint256 concession) private {
        uint256 price = leg.closeLimit > 0 ? leg.markPrice - concession : leg.markPrice + concession;
        uint256 flatFee = FLAT_FEE.mulDiv(size, leg.closeLimit.abs());
        uint256 toFund = size.mulDiv(concession, UNIT).mulDiv(FUND_SHARE, UNIT);
        _pay(leg.accountId, taker, flatFee);
        _pay(taker, AccountLib.FUND, toFund);
        emit Events.Liquidated(leg.accountId, leg.asset, taker, _closing(leg, size), price, concession, flatFee, toFund);
        _deliver(leg, taker, size, price);
    }

    /// @dev `size` goes from the account to `to` at `price`; of a token, what its decimals can say.
    function _deliver(LiquidationLeaf calldata leg, bytes32 to, uint256 size, uint256 price) private {
        if (leg.asset.isToken()) {
            (, address token) = leg.asset.tokenOf();
            _payValue(to, leg.accountId, size, price);
            VAULT.transferBalance(leg.accountId, to, token, size / VAULT.scaleOf(token));
        } else if (leg.closeLimit > 0) {
            _exchange(to, leg.accountId, leg.asset, size, price);
        } else {
            _exchange(leg.accountId, to, leg.asset, size, price);
        }
    }

    /// @return What is added to the account's position.
    function _closing(LiquidationLeaf calldata leg, uint256 size) private pure returns (int256) {
        return leg.closeLimit > 0 ? -size.toInt256() : size.toInt256();
    }
}
