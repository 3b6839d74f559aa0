// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MarginLens} from "../../contracts/MarginLens.sol";
import {DevnetFeed} from "../../contracts/devnet/DevnetFeed.sol";
import {IClearingHouse} from "../../contracts/interfaces/IClearingHouse.sol";
import {ICollateralVault} from "../../contracts/interfaces/ICollateralVault.sol";
import {IMarginLens} from "../../contracts/interfaces/IMarginLens.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {SettlementFixture} from "./base/SettlementFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice A feed that answers with too few bytes.
contract ShortFeed {
    fallback() external {
        assembly ("memory-safe") {
            return(0, 32)
        }
    }
}

/// @notice A feed whose round is fine and whose decimals are no uint8.
contract WideFeed {
    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return (1, 1e8, block.timestamp, block.timestamp, 1);
    }

    function decimals() external pure returns (uint256) {
        return 256;
    }
}

/// @notice Rounds of two phases, as Chainlink's proxies number them: the older phase's are missing by id.
contract PhasedFeed {
    uint80 private constant FIRST = (2 << 64) + 1;

    function latestRoundData() external pure returns (uint80, int256, uint256, uint256, uint80) {
        return getRoundData(FIRST + 1);
    }

    function getRoundData(uint80 id) public pure returns (uint80, int256, uint256, uint256, uint80) {
        if (id < FIRST) return (id, 0, 0, 0, 0);
        uint256 time = 1_000_000 + 10 * uint256(id - FIRST);
        return (id, int256(uint256(id - FIRST)) + 5, time, time, id);
    }
}

/// @notice Reads many values in one call; a broken feed hides no other.
contract MarginLensTest is SettlementFixture {
    MarginLens private lens;

    function setUp() public override {
        super.setUp();
        lens = new MarginLens(house, vault);
        fund(0, 10_000);
        fund(1, 5_000);
        deposit(1, weth, 3e18);
        trade(0, 1, 2e18, MARK);
    }

    function test_accounts_ReadsEachAsAsked() public view {
        IMarginLens.AccountQuery[] memory queries = new IMarginLens.AccountQuery[](3);
        queries[0].accountId = idOf(0);
        queries[0].instruments = new bytes32[](2);
        (queries[0].instruments[0], queries[0].instruments[1]) = (perpetual("BTC"), ETH);
        queries[1].accountId = idOf(1);
        queries[1].tokens = new address[](1);
        queries[1].tokens[0] = address(weth);
        IMarginLens.AccountView[] memory views = lens.accounts(queries);
        assertEq(views[0].cash, house.cashOf(idOf(0)), "cash of the first");
        assertEq(views[0].sizes[0], 0, "no BTC");
        assertEq(views[0].sizes[1], 2e18, "ETH");
        assertEq(views[0].balances.length, 0, "no tokens asked");
        assertEq(views[1].balances[0], 3e18, "WETH of the second");
        assertEq(views[2].cash, 0, "an account of nobody");
    }

    function test_feeds_ABrokenOneHidesNoOther() public {
        address[] memory feeds = new address[](5);
        feeds[0] = address(new DevnetFeed(8, "ETH / USD", 3000e8));
        feeds[1] = address(0xDEAD);
        feeds[2] = address(new ShortFeed());
        feeds[3] = address(new WideFeed());
        feeds[4] = address(new DevnetFeed(18, "broken down", -1));
        IMarginLens.FeedView[] memory views = lens.feeds(feeds);
        assertTrue(views[0].ok && views[4].ok, "what answers is told, negative answers too");
        assertEq(views[0].answer, 3000e8, "answer");
        assertEq(views[0].updatedAt, block.timestamp, "updated");
        assertEq(views[0].decimals, 8, "decimals");
        assertEq(views[4].answer, -1, "negative answer");
        for (uint256 i = 1; i < 4; ++i) {
            assertFalse(views[i].ok, "a broken feed");
            assertEq(views[i].answer, 0, "of a broken feed");
        }
    }

    // --- rounds ----------------------------------------------------------------------------------------------------

    function test_rounds_BackToTheFirstAtOrBefore() public {
        DevnetFeed feed = _feed();
        IMarginLens.Round[] memory found = lens.rounds(address(feed), START + 20, 100);
        assertEq(found.length, 3, "40, 30 and 20, which is the last");
        for (uint256 i; i < 3; ++i) {
            assertEq(found[i].updatedAt, START + 40 - 10 * i, "time, newest first");
            assertEq(found[i].answer, int256(3040e8 - 10e8 * i), "answer");
        }
        found = lens.rounds(address(feed), START + 29, 100);
        assertEq(found.length, 3, "20 is the first before 29");
        assertEq(lens.rounds(address(feed), START + 40, 100).length, 1, "the latest is at it");
        assertEq(lens.rounds(address(feed), 0, 100).length, 5, "to the feed's first round");
        assertEq(lens.rounds(address(feed), 0, 2).length, 2, "as many as asked");
        assertEq(lens.rounds(address(feed), 0, 0).length, 0, "none");
    }

    function test_rounds_EndWhereOneIsMissing() public {
        IMarginLens.Round[] memory found = lens.rounds(address(new PhasedFeed()), 0, 100);
        assertEq(found.length, 2, "of the latest phase");
        assertEq(found[0].answer, 6, "newest first");
        assertEq(found[1].answer, 5, "to its first");
        assertEq(lens.rounds(address(new ShortFeed()), 0, 100).length, 0, "malformed");
        assertEq(lens.rounds(address(new WideFeed()), 0, 100).length, 1, "no getRoundData");
        assertEq(lens.rounds(address(0xDEAD), 0, 100).length, 0, "no code");
    }

    function _feed() private returns (DevnetFeed feed) {
        vm.warp(START);
        feed = new DevnetFeed(8, "ETH / USD", 3000e8);
        for (uint256 i = 1; i < 5; ++i) {
            vm.warp(START + 10 * i);
            feed.set(int256(3000e8 + 10e8 * i));
        }
    }

    function test_CM30_chain_TellsTheSums() public {
        settle(1, idOf(1), -40e18);
        IMarginLens.ChainView memory seen = lens.chain();
        assertEq(seen.number, block.number, "number");
        assertEq(seen.time, block.timestamp, "time");
        assertEq(seen.settlementHeld, 15_000e6, "held");
        assertEq(seen.settlementBalance, 15_000e6, "tokens");
        assertEq(seen.totalCash, 15_000e18 - 40e18, "cash");
        assertEq(seen.claims, -40e18, "claims");
        assertEq(seen.available, 14_960e6, "available");
    }

    function test_constructor_RevertWhen_Misconfigured() public {
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, "clearingHouse"));
        new MarginLens(IClearingHouse(address(0)), vault);
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, "vault"));
        new MarginLens(house, ICollateralVault(address(0)));
    }
}
