// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CollateralVault} from "../../../contracts/CollateralVault.sol";
import {DevnetToken} from "../../../contracts/devnet/DevnetToken.sol";
import {IBridge} from "../../../contracts/interfaces/IBridge.sol";

/// @title LocalBridge
/// @notice One end of a burn-and-mint bridge whose other ends are the test: it burns what a vault sends, and brings
/// whatever the test says another chain sent.
contract LocalBridge is IBridge {
    DevnetToken private immutable TOKEN;

    /// @notice Sum of what was sent to each chain, token decimals.
    mapping(uint64 toChain => uint256) public sentTo;

    constructor(DevnetToken token) {
        TOKEN = token;
    }

    /// @inheritdoc IBridge
    function send(uint64 toChain, uint256 amount) external {
        TOKEN.transferFrom(msg.sender, address(0xDEAD), amount);
        sentTo[toChain] += amount;
    }

    /// @notice An arrival at a vault: of `sent`, `arrived` came.
    function arrive(CollateralVault vault, uint256 sent, uint256 arrived) public {
        TOKEN.mint(address(this), arrived);
        TOKEN.approve(address(vault), arrived);
        vault.receiveShipment(sent, arrived);
    }

    /// @inheritdoc IBridge
    function receiveMessage(bytes calldata message, bytes calldata) external {
        (CollateralVault vault, uint256 sent, uint256 arrived) =
            abi.decode(message, (CollateralVault, uint256, uint256));
        arrive(vault, sent, arrived);
    }
}
