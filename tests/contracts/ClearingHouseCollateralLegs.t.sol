// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DevnetToken} from "../../contracts/devnet/DevnetToken.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {AssetLib} from "../../contracts/libraries/AssetLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {LiquidationLeaf, Permit} from "../../contracts/libraries/Types.sol";
import {HouseFixture} from "./base/HouseFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice Collateral sold by a leg: tokens move inside the vault, cash inside the clearing house, both sums stay
/// (CM-20, CM-30), and CM-40 and CM-42 hold as for positions.
contract ClearingHouseCollateralLegsTest is HouseFixture {
    uint256 private constant OWNER = 0;
    uint256 private constant TAKER = 2;
    uint256 private constant CONCESSION = 60e18;

    function setUp() public override {
        super.setUp();
        deposit(OWNER, weth, 5e18);
        fund(TAKER, 50_000);
    }

    // --- what is booked --------------------------------------------------------------------------------------------

    function test_CM20_CM42_liquidate_ATokenIsBoughtBelowTheMark() public {
        LiquidationLeaf memory leg = _posted(3e18);
        pass(RAMP_SECONDS);
        int256 taker = house.cashOf(idOf(TAKER));
        Permit memory permit = takeover(TAKER, leg, 2e18);
        (bytes memory signatures, bytes32[] memory proof) = (signed(permit), legProof(leg));
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.Liquidated(idOf(OWNER), leg.asset, idOf(TAKER), -2e18, 2940e18, CONCESSION, FLAT_FEE * 2 / 3, 24e18);
        vm.prank(ownerOf(TAKER));
        house.liquidate(leg, proof, idOf(TAKER), 2e18, permit, signatures);
        int256 flatFee = int256(FLAT_FEE) * 2 / 3;
        assertEq(vault.balanceOf(idOf(OWNER), address(weth)), 3e18, "what stays with the account");
        assertEq(vault.balanceOf(idOf(TAKER), address(weth)), 2e18, "what the taker has");
        assertEq(house.cashOf(idOf(OWNER)), 2 * 2940e18 - flatFee, "mark less concession, less the flat fee");
        assertEq(house.cashOf(idOf(TAKER)) - taker, -2 * 2940e18 - 24e18 + flatFee, "paid by the taker");
        assertEq(house.cashOf(AccountLib.FUND), 24e18, "a fifth of the concession is the fund's");
        assertEq(house.closedOf(idOf(OWNER), leg.asset), 2e18, "closed");
        assertEq(vault.totalOf(address(weth)), 5e18, "no token came or went");
        assertSums("after a sale of collateral");
    }

    /// @notice What the taker bought he can withdraw, and the account no more.
    function test_CM20_liquidate_TheTakerOwnsWhatItBought() public {
        LiquidationLeaf memory leg = _posted(5e18);
        take(TAKER, leg, 5e18);
        withdraw(TAKER, address(weth), 5e18);
        withdraw(
            OWNER,
            address(weth),
            1,
            abi.encodeWithSelector(Errors.InsufficientBalance.selector, idOf(OWNER), address(weth), 0, 1)
        );
        assertSums("after the taker withdrew");
    }

    /// @notice A token of eight decimals: the taker pays for what it asked and gets what the token can say.
    function test_CM42_liquidate_RoundsTokensAgainstTheTaker() public {
        _redeployWith(8);
        deposit(OWNER, weth, 5e8);
        fund(TAKER, 50_000);
        LiquidationLeaf memory leg = legOf(OWNER, 5e18, 0);
        (leg.asset, leg.markPrice) = (_asset(address(weth)), MARK + 1);
        postLeg(leg);
        int256 before = house.cashOf(idOf(TAKER));
        take(TAKER, leg, 1.99e10);
        assertEq(vault.balanceOf(idOf(TAKER), address(weth)), 1, "one unit of 1e-8");
        assertEq(vault.balanceOf(idOf(OWNER), address(weth)), 5e8 - 1, "of the account's");
        // 1.99e-8 × (3,000 and a unit) is 59.7e12 and a part; the flat fee is its part of the leg.
        assertEq(before - house.cashOf(idOf(TAKER)), 59.7e12 + 1 - 5e18 * 1.99e10 / 5e18, "paid rounded up");
        assertEq(house.cashOf(idOf(OWNER)), 59.7e12 - 5e18 * 1.99e10 / 5e18, "received rounded down");
        assertEq(house.cashOf(AccountLib.FUND), 1, "the fund");
        assertEq(house.closedOf(idOf(OWNER), leg.asset), 1.99e10, "closed by what was asked");
        assertSums("after dust");
    }

    /// @notice Whatever is taken in whatever parts, what the account loses the taker and the fund gain.
    /// forge-config: default.fuzz.runs = 128
    function testFuzz_CM20_CM42_liquidate_Conserves(uint256 limit, uint256 size, uint256 wait, uint256 mark) public {
        limit = bound(limit, 1, 5e18);
        size = bound(size, 1, limit);
        LiquidationLeaf memory leg = legOf(OWNER, int256(limit), CONCESSION);
        (leg.asset, leg.markPrice) = (_asset(address(weth)), bound(mark, 1, 1e24));
        postLeg(leg);
        pass(bound(wait, 0, MAX_AGE));
        int256[3] memory before =
            [_worth(OWNER, leg.markPrice), _worth(TAKER, leg.markPrice), house.cashOf(AccountLib.FUND)];
        take(TAKER, leg, size);
        int256 lost = before[0] - _worth(OWNER, leg.markPrice);
        int256 toFund = house.cashOf(AccountLib.FUND) - before[2];
        int256 gained = _worth(TAKER, leg.markPrice) - before[1] + toFund;
        assertTrue(lost >= gained - 2 && lost <= gained + 2, "CM-42: lost is gained");
        assertTrue(toFund >= 0, "the fund does not pay");
        assertSums("after a sale of collateral");
    }

    // --- the fund's own inventory ----------------------------------------------------------------------------------

    /// @notice What the fund took it sells by legs of its own.
    function test_CM43_liquidate_TheFundSellsWhatItTook() public {
        LiquidationLeaf memory leg = _posted(5e18);
        leg.counterparty = AccountLib.FUND;
        postLeg(leg);
        deleverage(leg, 5e18, "");
        assertEq(vault.balanceOf(AccountLib.FUND, address(weth)), 5e18, "the fund has it");
        assertEq(house.cashOf(AccountLib.FUND), -5 * int256(MARK), "and paid the mark, below nothing too");
        leg = _posted(5e18);
        leg.accountId = AccountLib.FUND;
        postLeg(leg);
        pass(RAMP_SECONDS);
        take(TAKER, leg, 5e18);
        assertEq(vault.balanceOf(idOf(TAKER), address(weth)), 5e18, "sold");
        int256 sold = 5 * int256(MARK - CONCESSION) - int256(FLAT_FEE) + int256(CONCESSION);
        assertEq(house.cashOf(AccountLib.FUND), sold - 5 * int256(MARK), "price, and its share of the concession");
        assertSums("after the fund sold");
    }

    // --- what a leg leaves to close (CM-40) ------------------------------------------------------------------------

    function test_CM40_liquidate_RevertWhen_MoreThanTheLegOrTheBalance() public {
        LiquidationLeaf memory leg = _posted(6e18);
        take(TAKER, leg, 5e18 + 1, abi.encodeWithSelector(Errors.ExceedsPosition.selector, 5e18 + 1, 5e18));
        take(TAKER, leg, 4e18);
        take(TAKER, leg, 2e18 + 1, abi.encodeWithSelector(Errors.LegExhausted.selector, 4e18, 2e18 + 1, 6e18));
        take(TAKER, leg, 1e18);
        take(TAKER, leg, 1, abi.encodeWithSelector(Errors.LegSideMismatch.selector, 0, int256(6e18)));
        deposit(OWNER, weth, 5e18);
        take(TAKER, leg, 1e18);
        take(TAKER, leg, 1, abi.encodeWithSelector(Errors.LegExhausted.selector, 6e18, 1, 6e18));
    }

    /// @notice A balance is never short.
    function test_CM40_liquidate_RevertWhen_TheLegIsOfAShort() public {
        LiquidationLeaf memory leg = _posted(-1e18);
        take(TAKER, leg, 1e18, abi.encodeWithSelector(Errors.LegSideMismatch.selector, 5e18, int256(-1e18)));
        leg = _posted(0);
        take(TAKER, leg, 1e18, abi.encodeWithSelector(Errors.LegSideMismatch.selector, 5e18, int256(0)));
    }

    function test_CM40_liquidate_RevertWhen_ToppedUpToItsTarget() public {
        LiquidationLeaf memory leg = _posted(1e18);
        leg.depositTarget = 100e6;
        postLeg(leg);
        fund(OWNER, 100);
        take(TAKER, leg, 1e18, abi.encodeWithSelector(Errors.LegVoid.selector, 100e6, 100e6));
    }

    // --- which tokens ----------------------------------------------------------------------------------------------

    /// @notice The same address is another token on another chain.
    function test_liquidate_RevertWhen_NotACollateralTokenOfThisChain() public {
        DevnetToken other = new DevnetToken("Other", "OTH", 18);
        bytes32[5] memory assets = [
            AssetLib.tokenId(CHAIN_B, address(weth)),
            AssetLib.tokenId(0, address(weth)),
            _asset(address(usdc)),
            _asset(address(other)),
            bytes32(uint256(_asset(address(weth))) | (uint256(1) << 224))
        ];
        for (uint256 i; i < assets.length; ++i) {
            LiquidationLeaf memory leg = legOf(OWNER, 1e18, 0);
            leg.asset = assets[i];
            postLeg(leg);
            take(TAKER, leg, 1e18, abi.encodeWithSelector(Errors.NotTradable.selector, assets[i]));
            leg.counterparty = AccountLib.FUND;
            postLeg(leg);
            deleverage(leg, 1e18, abi.encodeWithSelector(Errors.NotTradable.selector, assets[i]));
        }
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _asset(address token) private view returns (bytes32) {
        return AssetLib.tokenId(uint64(block.chainid), token);
    }

    function _posted(int256 closeLimit) private returns (LiquidationLeaf memory leg) {
        leg = legOf(OWNER, closeLimit, CONCESSION);
        leg.asset = _asset(address(weth));
        postLeg(leg);
    }

    function _redeployWith(uint8 decimals) private {
        weth = new DevnetToken("Wrapped", "W", decimals);
        redeploy();
        post();
    }

    function _worth(uint256 index, uint256 mark) private view returns (int256) {
        return house.cashOf(idOf(index)) + int256(vault.balanceOf(idOf(index), address(weth)) * mark / 1e18);
    }
}
