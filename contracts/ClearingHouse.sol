// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ledger} from "./clearing/Ledger.sol";
import {Liquidation} from "./clearing/Liquidation.sol";
import {Matching} from "./clearing/Matching.sol";
import {Settlement} from "./clearing/Settlement.sol";

/// @title ClearingHouse
/// @notice The central counterparty of one chain: all cash, all positions, their liquidation and their settlement.
/// @dev Immutable and without an owner. Calls only the verifier and the vault of its own deployment. What it does is in
/// contracts/clearing, one concept in each.
contract ClearingHouse is Matching, Liquidation, Settlement {
    constructor(Config memory config) Ledger(config) {}
}
