// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccountLib} from "../../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../../contracts/libraries/Errors.sol";
import {LiquidationLeaf, MarkLeaf, Reservation} from "../../../contracts/libraries/Types.sol";
import {SettlementFixture} from "./SettlementFixture.sol";
import {vm} from "./Vm.sol";

/// @title HouseHandler
/// @notice What anybody may do to one chain's contracts, with any numbers, in any order. Every action acts: where it
/// lacks something to act on, it makes that first. It checks on the way what only the moment of the act shows.
contract HouseHandler is SettlementFixture {
    uint256 internal constant MOST = 1e12;

    /// @notice How often each action was completed.
    mapping(bytes4 selector => uint256) public acted;
    /// @notice Sum of the sizes that takeovers closed, counted here.
    mapping(uint256 index => uint256) public closed;
    /// @notice Sum of what is reserved and not given back, counted here; none of it lapses.
    mapping(uint256 index => uint256) public reserved;

    /// @dev ETH's funding index in every mark that is posted.
    int256 internal index_;
    /// @dev Set by an action in which the fund pays for what it takes, or bears a bridge's fee.
    bool internal fundPays;

    int256 private _fundBefore;
    uint256 private _clock = START;

    /// @dev Time and chain are the handler's own, whatever the runner made of them between two calls.
    modifier acts() {
        vm.warp(_clock);
        vm.roll(1000 + _clock - START);
        onChain(CHAIN_A);
        _fundBefore = house.cashOf(AccountLib.FUND);
        fundPays = false;
        _;
        assertTrue(
            fundPays || house.cashOf(AccountLib.FUND) >= _fundBefore, "CM-42: rounding and takers never cost the fund"
        );
        _clock = block.timestamp;
        ++acted[msg.sig];
    }

    function setUp() public override {
        integrators.push(address(this));
        super.setUp();
    }

    // --- actions ---------------------------------------------------------------------------------------------------

    function depositCash(uint256 index, uint256 amount) external acts {
        deposit(index % 4, usdc, bound(amount, 1, MOST));
    }

    function depositCollateral(uint256 index, uint256 amount) external acts {
        deposit(index % 4, weth, bound(amount, 1, MOST * 1e12));
    }

    /// @notice Tokens sent to the vault without a word belong to nobody.
    function donate(uint256 amount) external acts {
        usdc.mint(address(vault), bound(amount, 1, MOST));
        weth.mint(address(vault), bound(amount, 1, MOST));
    }

    function withdrawCash(uint256 index, uint256 amount) external acts {
        index %= 4;
        if (vault.available() == 0) {
            int256 claims = house.claims();
            deposit(index, usdc, MOST + (claims < 0 ? uint256(-claims) / 1e12 : 0));
        }
        uint256 most = vault.available();
        withdraw(
            index, address(usdc), most + 1, abi.encodeWithSelector(Errors.InsufficientHeld.selector, most, most + 1)
        );
        withdraw(index, address(usdc), bound(amount, 1, most));
    }

    function withdrawCollateral(uint256 index, uint256 amount) external acts {
        index %= 4;
        if (vault.balanceOf(idOf(index), address(weth)) == 0) deposit(index, weth, 1e18);
        uint256 balance = vault.balanceOf(idOf(index), address(weth));
        withdraw(
            index,
            address(weth),
            balance + 1,
            abi.encodeWithSelector(
                Errors.InsufficientBalance.selector, idOf(index), address(weth), balance, balance + 1
            )
        );
        withdraw(index, address(weth), bound(amount, 1, balance));
    }

    function matchOrders(uint256 maker, uint256 taker, uint256 size, uint256 price, bool buys) external acts {
        _freshMark();
        _trade(maker % 4, taker, int256(bound(size, 1, 5e18)), bound(price, MARK * 9 / 10, MARK * 11 / 10), buys);
    }

    /// @notice A leg for what was closed before and a part of the position, taken over in a part of that.
    function liquidate(uint256 index, uint256 taker, uint256[4] calldata numbers) external acts {
        index %= 4;
        _freshMark();
        if (house.positionOf(idOf(index), ETH) == 0) _trade(index, taker, 1e18, MARK, true);
        int256 before = house.positionOf(idOf(index), ETH);
        uint256 part = bound(numbers[0], 1, _size(before));
        int256 limit = int256(house.closedOf(idOf(index), ETH) + part);
        LiquidationLeaf memory leg = legOf(index, before > 0 ? limit : -limit, bound(numbers[1], 0, 2 * MARK));
        leg.markPrice = bound(numbers[2], 1, 10 * MARK);
        postLeg(leg);
        pass(bound(numbers[3], 0, RAMP_SECONDS));

        uint256 by = _another(index, taker);
        take(
            by,
            leg,
            part + 1,
            abi.encodeWithSelector(Errors.LegExhausted.selector, uint256(limit) - part, part + 1, uint256(limit))
        );
        uint256 size = bound(numbers[3], 1, part);
        _touch(idOf(index));
        _touch(idOf(by));
        int256[3] memory worth = [_worth(idOf(index), leg), _worth(idOf(by), leg), house.cashOf(AccountLib.FUND)];
        take(by, leg, size);
        closed[index] += size;
        _checkTakeover(leg, by, worth);
        assertEq(_size(house.positionOf(idOf(index), ETH)), _size(before) - size, "CM-40: the position shrank by it");
        assertTrue(house.positionOf(idOf(index), ETH) * before >= 0, "CM-40: never on the other side");
    }

    function reserve(uint256 index, uint256 amount, uint256 cashPart) external acts {
        index %= 4;
        amount = bound(amount, 1, MOST);
        reserve(index, address(this), amount, bound(cashPart, 0, amount));
        reserved[index] += amount;
    }

    function release(uint256 index, uint256 amount) external acts {
        index %= 4;
        if (reserved[index] == 0) this.reserve(index, amount, 0);
        amount = bound(amount, 1, reserved[index]);
        reservations.release(idOf(index), amount);
        reserved[index] -= amount;
    }

    // --- what must hold --------------------------------------------------------------------------------------------

    function checkSums() external view {
        assertSums("in any state");
    }

    /// @notice What the clearing account has, is still owed of funding, and holds of expired instruments, is not negative.
    function checkClearing() external view {
        (int256 stored,) = house.fundingIndexOf(ETH);
        int256 covered = house.cashOf(AccountLib.CLEARING) * 1e18;
        bytes32[] memory ids = everyone();
        for (uint256 i; i < ids.length; ++i) {
            covered += house.positionOf(ids[i], ETH) * (stored - house.fundingPaidOf(ids[i], ETH));
        }
        for (uint256 i; i < instruments.length; ++i) {
            (, uint256 price) = house.settlementPriceOf(instruments[i]);
            covered += house.positionOf(AccountLib.CLEARING, instruments[i]) * int256(price);
        }
        assertTrue(covered >= 0, "CM-30: the clearing account is owed what it owes");
    }

    function checkClosed() external view {
        for (uint256 i; i < owners.length; ++i) {
            assertEq(house.closedOf(idOf(i), ETH), closed[i], "CM-40: closed is the sum of what was taken over");
        }
    }

    function checkReservations() external view {
        int256 owed;
        for (uint256 i; i < owners.length; ++i) {
            Reservation memory open = reservations.reservationOf(idOf(i), address(this));
            assertEq(open.amount, reserved[i], "reserved less given back");
            assertAtMost(open.cashPart, open.amount, "the cash part");
            (uint256 cash, uint256 rest) = reservations.owedOf(idOf(i), address(this));
            assertEq(reservations.unpaidOf(idOf(i)), cash + rest, "CM-15: unpaid is what is owed");
            owed += int256(cash + rest);
        }
        assertEq(house.cashOf(AccountLib.claims(address(this))), owed, "CM-15: claims are what is owed");
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    /// @return ETH's mark as it is posted now.
    function _mark() internal view returns (MarkLeaf memory) {
        return markOf(ETH, MARK, index_, 0);
    }

    function _freshMark() internal {
        postMark(_mark());
    }

    function _trade(uint256 maker, uint256 taker, int256 size, uint256 price, bool buys) internal {
        house.matchOrders(matchOf(maker, _another(maker, taker), buys ? size : -size, price, _mark()));
    }

    /// @dev Settles the funding of an account, so that what it has before and after an act differs by the act alone.
    function _touch(bytes32 accountId) internal {
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = accountId;
        MarkLeaf memory mark = _mark();
        house.accrue(mark, markProof(mark), ids);
    }

    function _another(uint256 index, uint256 other) internal pure returns (uint256) {
        return (index + 1 + other % 3) % 4;
    }

    /// @dev CM-42 at the leg's mark; each worth rounds by less than one unit.
    function _checkTakeover(LiquidationLeaf memory leg, uint256 by, int256[3] memory worth) internal view {
        int256 lost = worth[0] - _worth(leg.accountId, leg);
        int256 gained = _worth(idOf(by), leg) - worth[1] + house.cashOf(AccountLib.FUND) - worth[2];
        assertTrue(lost >= gained - 2 && lost <= gained + 2, "CM-42: what is lost is gained");
        assertTrue(gained >= -2, "CM-42: the account does not gain by it");
    }

    function _worth(bytes32 accountId, LiquidationLeaf memory leg) internal view returns (int256) {
        int256 held =
            leg.asset == ETH ? house.positionOf(accountId, ETH) : int256(vault.balanceOf(accountId, address(weth)));
        return house.cashOf(accountId) + held * int256(leg.markPrice) / 1e18;
    }

    function _size(int256 position) internal pure returns (uint256) {
        return uint256(position < 0 ? -position : position);
    }
}
