// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccountLib} from "../../../contracts/libraries/AccountLib.sol";
import {AssetLib} from "../../../contracts/libraries/AssetLib.sol";
import {Errors} from "../../../contracts/libraries/Errors.sol";
import {LiquidationLeaf, MarkLeaf, SettlementLeaf} from "../../../contracts/libraries/Types.sol";
import {HouseHandler} from "./HouseHandler.sol";
import {vm} from "./Vm.sol";

/// @title ClearingHandler
/// @notice The rest of what anybody may do to one chain's contracts: funding, expiry, the waterfall, settlement between
/// chains, claims.
contract ClearingHandler is HouseHandler {
    uint64 private constant LIFE = 600;

    /// @notice Sum of the token's sizes that legs sold, counted here.
    mapping(uint256 index => uint256) public sold;

    bytes32 private _dated;
    uint64 private _expiry;
    uint64 private _cycle;

    // --- funding ---------------------------------------------------------------------------------------------------

    /// @notice The index moves anywhere within the clamp, and beyond it nowhere; some accounts are touched.
    function accrueFunding(int256 change, uint256 wait, uint256 who) external acts {
        fundPays = true;
        _freshMark();
        _touch(idOf(who % 4));
        pass(bound(wait, 0, 100));
        (int256 stored, uint64 time) = house.fundingIndexOf(ETH);
        int256 most = int256(MARK * MAX_FUNDING_RATE / 1e18 * (block.timestamp + EPOCH_SECONDS - time));
        MarkLeaf memory mark = markOf(ETH, MARK, stored + most + 1, 0);
        uint256 state = vm.snapshotState();
        postMark(mark);
        bytes32[] memory proof = markProof(mark);
        expectError(abi.encodeWithSelector(Errors.FundingJump.selector, ETH, stored, stored + most + 1, uint256(most)));
        house.accrue(mark, proof, new bytes32[](0));
        vm.revertToState(state);
        index_ = stored + change % (most + 1);
        _freshMark();
        _touch(who % 2 == 0 ? idOf(who % 4) : AccountLib.FUND);
    }

    // --- expiry ----------------------------------------------------------------------------------------------------

    /// @notice Trades a future, a new one where the last expired.
    function tradeDated(uint256 maker, uint256 taker, int256 size, uint256 price) external acts {
        _tradeDated(maker % 4, taker, size % 5e18, bound(price, 1, 2 * MARK));
    }

    /// @notice The future expires at some price; some accounts settle, the others in some later call.
    function expire(uint256 price, uint256 who) external acts {
        fundPays = true;
        if (_expiry == 0) _tradeDated(who % 4, who, 1e18, MARK);
        (bool known, uint256 fixedPrice) = house.settlementPriceOf(_dated);
        if (!known) {
            if (block.timestamp < _expiry) vm.warp(_expiry);
            fixedPrice = bound(price, 0, 3 * MARK);
            fixPrice(_dated, _expiry, fixedPrice);
        } else {
            pass(EPOCH_SECONDS);
        }
        bytes32[] memory ids = new bytes32[](2);
        (ids[0], ids[1]) = (idOf(who % 4), idOf((who >> 8) % 4));
        int256 size = house.positionOf(ids[0], _dated);
        int256 before = house.cashOf(ids[0]);
        house.settleExpired(_dated, ids);
        assertEq(house.positionOf(ids[0], _dated), 0, "settled");
        int256 paid = (house.cashOf(ids[0]) - before) * 1e18 - size * int256(fixedPrice);
        assertTrue(paid <= 0 && paid > -1e18, "CM-42: at the price, rounded against the account");
    }

    // --- the waterfall ---------------------------------------------------------------------------------------------

    /// @notice A leg against the fund, or against whoever is on the other side of the position.
    function deleverage(uint256 index, uint256 other, uint256[3] calldata numbers) external acts {
        fundPays = true;
        index %= 4;
        _freshMark();
        if (house.positionOf(idOf(index), ETH) == 0) _trade(index, other, 1e18, MARK, true);
        int256 position = house.positionOf(idOf(index), ETH);
        (bytes32 counterparty, uint256 most) = _opposite(position, idOf(_another(index, other)), other % 2 == 0);
        uint256 size = bound(numbers[0], 1, most);
        int256 limit = int256(house.closedOf(idOf(index), ETH) + size);
        LiquidationLeaf memory leg = legOf(index, position > 0 ? limit : -limit, numbers[1]);
        (leg.markPrice, leg.counterparty) = (bound(numbers[2], 0, 10 * MARK), counterparty);
        postLeg(leg);
        _deleverage(leg, size);
        closed[index] += size;
        assertEq(_size(house.positionOf(idOf(index), ETH)), _size(position) - size, "CM-40: the position shrank by it");
    }

    /// @return Who is on the other side of a position, or the fund, and how much of it they can take.
    function _opposite(int256 position, bytes32 other, bool toFund) private view returns (bytes32, uint256) {
        int256 held = house.positionOf(other, ETH);
        if (toFund || held * position >= 0) return (AccountLib.FUND, _size(position));
        return (other, _size(held) < _size(position) ? _size(held) : _size(position));
    }

    function _deleverage(LiquidationLeaf memory leg, uint256 size) private {
        _touch(leg.accountId);
        _touch(leg.counterparty);
        int256[3] memory before =
            [_worth(leg.accountId, leg), _worth(leg.counterparty, leg), house.cashOf(AccountLib.FEES)];
        deleverage(leg, size, "");
        int256 lost = before[0] - _worth(leg.accountId, leg);
        int256 gained = _worth(leg.counterparty, leg) - before[1];
        assertTrue(lost >= -2 && lost <= 3 && gained >= -3 && gained <= 2, "CM-42: at the leg's price exactly");
        assertEq(house.cashOf(AccountLib.FEES), before[2], "no fee");
    }

    /// @notice Collateral sold by auction, or to the fund.
    function sellCollateral(uint256 index, uint256 taker, uint256[4] calldata numbers) external acts {
        index %= 4;
        if (vault.balanceOf(idOf(index), address(weth)) == 0) deposit(index, weth, 1e18);
        uint256 balance = vault.balanceOf(idOf(index), address(weth));
        uint256 size = bound(numbers[0], 1, balance);
        LiquidationLeaf memory leg = legOf(index, 0, bound(numbers[1], 0, 2 * MARK));
        leg.asset = AssetLib.tokenId(CHAIN_A, address(weth));
        leg.closeLimit = int256(house.closedOf(idOf(index), leg.asset) + size);
        leg.markPrice = bound(numbers[2], 1, 10 * MARK);
        fundPays = numbers[3] % 4 == 0;
        if (fundPays) leg.counterparty = AccountLib.FUND;
        postLeg(leg);
        pass(bound(numbers[3], 0, RAMP_SECONDS));
        uint256 by = _another(index, taker);
        int256[3] memory worth = [_worth(idOf(index), leg), _worth(idOf(by), leg), house.cashOf(AccountLib.FUND)];
        if (fundPays) {
            deleverage(leg, size, "");
            int256 lost = worth[0] - _worth(idOf(index), leg);
            assertTrue(lost >= -2 && lost <= 3, "CM-42: at the leg's price exactly");
        } else {
            take(by, leg, size);
            _checkTakeover(leg, by, worth);
        }
        sold[index] += size;
        assertEq(vault.balanceOf(idOf(index), address(weth)), balance - size, "CM-40: the balance shrank by it");
        assertEq(house.closedOf(idOf(index), leg.asset), sold[index], "CM-40: closed is the sum of what was sold");
    }

    // --- settlement between chains ---------------------------------------------------------------------------------

    /// @notice Two entries of a cycle, each applied once.
    function applyEntries(uint256 index, int256[2] calldata deltas) external acts {
        fundPays = true;
        SettlementLeaf[] memory entries = new SettlementLeaf[](2);
        entries[0] = entryOf(++_cycle, idOf(index % 4), deltas[0] % int256(MOST * 1e12));
        entries[1] =
            entryOf(_cycle, index % 2 == 0 ? AccountLib.FUND : AccountLib.FEES, deltas[1] % int256(MOST * 1e12));
        postEntries(entries);
        for (uint256 i; i < 2; ++i) {
            (int256 cash, int256 claims) = (house.cashOf(entries[i].accountId), house.claims());
            applyEntry(entries[i], "");
            assertEq(house.cashOf(entries[i].accountId) - cash, entries[i].cashDelta, "CM-50: the delta, once");
            assertEq(house.claims() - claims, entries[i].cashDelta, "CM-30: claims move with it");
            applyEntry(
                entries[i],
                abi.encodeWithSelector(Errors.SettlementAlreadyApplied.selector, _cycle, entries[i].accountId)
            );
        }
    }

    /// @notice A shipment of more than is held waits; one of what is held goes.
    function ship(uint256 amount) external acts {
        if (vault.settlementHeld() == 0) deposit(0, usdc, MOST);
        uint256 held = vault.settlementHeld();
        SettlementLeaf memory entry = entryOf(++_cycle, shipmentTo(CHAIN_B), -int256((held + 1) * 1e12));
        postEntry(entry);
        applyEntry(entry, abi.encodeWithSelector(Errors.InsufficientHeld.selector, held, held + 1));
        int256 cash = house.totalCash();
        amount = bound(amount, 1, held);
        entry.cashDelta = -int256(amount * 1e12);
        postEntry(entry);
        applyEntry(entry, "");
        assertEq(vault.settlementHeld(), held - amount, "sent");
        assertEq(house.totalCash(), cash, "CM-30: a shipment is nobody's cash");
    }

    /// @notice What another chain shipped, less a fee.
    function arrive(uint256 sent, uint256 fee) external acts {
        fundPays = true;
        sent = bound(sent, 1, MOST);
        fee = bound(fee, 0, sent);
        int256 before = house.cashOf(AccountLib.FUND);
        bridge.arrive(vault, sent, sent - fee);
        assertEq(before - house.cashOf(AccountLib.FUND), int256(fee * 1e12), "CM-30: the fund bears the fee");
    }

    // --- claims ----------------------------------------------------------------------------------------------------

    function claimReserved(uint256 index, uint256 amount, bool all) external acts {
        index %= 4;
        if (reserved[index] == 0) this.reserve(index, amount, amount / 2);
        amount = all ? reserved[index] : bound(amount, 1, reserved[index]);
        uint256 held = usdc.balanceOf(address(this));
        (uint256 cash, uint256 rest) = reservations.owedOf(idOf(index), address(this));
        claim(index, address(this), amount);
        reserved[index] -= amount;
        (uint256 cashLeft, uint256 restLeft) = reservations.owedOf(idOf(index), address(this));
        uint256 paid = usdc.balanceOf(address(this)) - held;
        assertEq(cash + rest + amount - cashLeft - restLeft, paid * 1e12, "CM-15: what is paid is not owed any more");
    }

    /// @notice The owner brings cash, and a part of the rest is cleared: no other rest is paid.
    function payout(uint256 index, uint256 fill) external acts {
        index %= 4;
        deposit(index, usdc, bound(fill, 1, MOST));
        (uint256 cash, uint256 rest) = reservations.owedOf(idOf(index), address(this));
        uint256 available = vault.available();
        uint256 held = usdc.balanceOf(address(this));
        reservations.payout(idOf(index), address(this));
        uint256 cleared = fill % (rest + 2);
        if (cleared > 0) clear(index, address(this), cleared);
        (uint256 cashLeft, uint256 restLeft) = reservations.owedOf(idOf(index), address(this));
        uint256 paid = usdc.balanceOf(address(this)) - held;
        assertAtMost(paid, available, "CM-30: what is owed to others stays");
        assertEq(rest - restLeft, cleared < rest ? cleared : rest, "CM-15: what a quorum cleared, and no more");
        assertEq(cash + rest - cashLeft - restLeft, paid * 1e12, "CM-15: what is paid is not owed any more");
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _tradeDated(uint256 maker, uint256 taker, int256 size, uint256 price) private {
        if (block.timestamp + EPOCH_SECONDS >= _expiry) _list();
        MarkLeaf memory mark = markOf(_dated, price, 0, 0);
        postMark(mark);
        trade(maker, _another(maker, taker), size == 0 ? int256(1) : size, mark);
    }

    function _list() private {
        _expiry = uint64(block.timestamp) + LIFE;
        _dated = dated(2, "ETH", _expiry, 0);
        instruments.push(_dated);
    }
}
