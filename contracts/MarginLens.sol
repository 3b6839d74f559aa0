// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IAggregatorV3} from "./interfaces/IAggregatorV3.sol";
import {IClearingHouse} from "./interfaces/IClearingHouse.sol";
import {ICollateralVault} from "./interfaces/ICollateralVault.sol";
import {IMarginLens} from "./interfaces/IMarginLens.sol";
import {Errors} from "./libraries/Errors.sol";

/// @title MarginLens
/// @notice Reads for keepers, many in one call. No state.
contract MarginLens is IMarginLens {
    IClearingHouse public immutable CLEARING_HOUSE;
    ICollateralVault public immutable VAULT;

    constructor(IClearingHouse clearingHouse, ICollateralVault vault) {
        if (address(clearingHouse) == address(0)) revert Errors.BadConfiguration("clearingHouse");
        if (address(vault) == address(0)) revert Errors.BadConfiguration("vault");
        CLEARING_HOUSE = clearingHouse;
        VAULT = vault;
    }

    /// @inheritdoc IMarginLens
    function accounts(AccountQuery[] calldata queries) external view returns (AccountView[] memory views) {
        views = new AccountView[](queries.length);
        for (uint256 i; i < queries.length; ++i) {
            AccountQuery calldata query = queries[i];
            AccountView memory seen = views[i];
            seen.cash = CLEARING_HOUSE.cashOf(query.accountId);
            seen.sizes = new int256[](query.instruments.length);
            for (uint256 j; j < query.instruments.length; ++j) {
                seen.sizes[j] = CLEARING_HOUSE.positionOf(query.accountId, query.instruments[j]);
            }
            seen.balances = new uint256[](query.tokens.length);
            for (uint256 j; j < query.tokens.length; ++j) {
                seen.balances[j] = VAULT.balanceOf(query.accountId, query.tokens[j]);
            }
        }
    }

    /// @inheritdoc IMarginLens
    function feeds(address[] calldata addresses) external view returns (FeedView[] memory views) {
        views = new FeedView[](addresses.length);
        for (uint256 i; i < addresses.length; ++i) {
            // One broken feed must not hide the others: it keeps the zeros of a new array, `ok` is false.
            if (addresses[i].code.length == 0) continue;
            try this.readFeed(addresses[i]) returns (FeedView memory seen) {
                views[i] = seen;
            } catch {} // solhint-disable-line no-empty-blocks
        }
    }

    /// @notice One feed; reverts where it does. External so that `feeds` can catch what it returns malformed.
    function readFeed(address feed) external view returns (FeedView memory) {
        (, int256 answer,, uint256 updatedAt,) = IAggregatorV3(feed).latestRoundData();
        return FeedView({ok: true, answer: answer, updatedAt: updatedAt, decimals: IAggregatorV3(feed).decimals()});
    }

    /// @inheritdoc IMarginLens
    function rounds(address feed, uint256 from, uint256 most) external view returns (Round[] memory found) {
        if (feed.code.length == 0) return found;
        // Zero asks for the latest: what the walk begins with.
        uint80 id;
        uint256 count;
        Round[] memory walked = new Round[](most);
        while (count < most) {
            try this.readRound(feed, id) returns (uint80 roundId, Round memory round) {
                if (round.updatedAt == 0) break;
                walked[count++] = round;
                if (round.updatedAt <= from || roundId <= 1) break;
                id = roundId - 1;
            } catch {
                break;
            }
        }
        found = new Round[](count);
        for (uint256 i; i < count; ++i) {
            found[i] = walked[i];
        }
    }

    /// @notice One round of a feed, the latest for id zero; reverts where it does. External so that `rounds` can catch
    /// what it returns malformed.
    function readRound(address feed, uint80 id) external view returns (uint80 roundId, Round memory round) {
        (roundId, round.answer,, round.updatedAt,) =
            id == 0 ? IAggregatorV3(feed).latestRoundData() : IAggregatorV3(feed).getRoundData(id);
    }

    /// @inheritdoc IMarginLens
    function chain() external view returns (ChainView memory) {
        return ChainView({
            number: block.number,
            time: block.timestamp,
            settlementHeld: VAULT.settlementHeld(),
            settlementBalance: IERC20(VAULT.SETTLEMENT_TOKEN()).balanceOf(address(VAULT)),
            totalCash: CLEARING_HOUSE.totalCash(),
            claims: CLEARING_HOUSE.claims(),
            available: VAULT.available()
        });
    }
}
