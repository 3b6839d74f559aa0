// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAggregatorV3} from "../interfaces/IAggregatorV3.sol";

/// @title DevnetFeed
/// @notice A price feed with Chainlink's interface whose answers its deployer sets. For the devnet and tests only.
contract DevnetFeed is IAggregatorV3 {
    struct Round {
        int256 answer;
        uint256 updatedAt;
    }

    /// @notice Only the deployer sets answers.
    error NotDeployer(address caller);
    /// @notice No round of that id.
    error NoRound(uint80 id);

    /// @notice A new answer, as Chainlink's feeds announce it.
    event AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt);

    address public immutable DEPLOYER;
    // Named as AggregatorV3Interface names them.
    // solhint-disable-next-line const-name-snakecase
    uint256 public constant version = 1;
    // solhint-disable-next-line immutable-vars-naming
    uint8 public immutable decimals;
    string public description;

    Round[] private _rounds;

    constructor(uint8 decimals_, string memory description_, int256 answer) {
        DEPLOYER = msg.sender;
        decimals = decimals_;
        description = description_;
        _set(answer);
    }

    /// @notice Sets the next answer, in the feed's decimals. Zero and negative ones too: feeds do break.
    function set(int256 answer) external {
        if (msg.sender != DEPLOYER) revert NotDeployer(msg.sender);
        _set(answer);
    }

    /// @inheritdoc IAggregatorV3
    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return getRoundData(uint80(_rounds.length));
    }

    /// @inheritdoc IAggregatorV3
    function getRoundData(uint80 id) public view returns (uint80, int256, uint256, uint256, uint80) {
        if (id == 0 || id > _rounds.length) revert NoRound(id);
        Round storage round = _rounds[id - 1];
        return (id, round.answer, round.updatedAt, round.updatedAt, id);
    }

    function _set(int256 answer) private {
        _rounds.push(Round(answer, block.timestamp));
        emit AnswerUpdated(answer, _rounds.length, block.timestamp);
    }
}
