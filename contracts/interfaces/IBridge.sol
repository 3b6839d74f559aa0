// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title IBridge
/// @notice Moves settlement token between the vaults of a deployment.
interface IBridge {
    /// @notice Only the vault: takes `amount` of the settlement token from it, as it approved, and sends it to this
    /// bridge's counterpart on `toChain`. Reverts where there is none.
    /// @param amount Token decimals.
    function send(uint64 toChain, uint256 amount) external;

    /// @notice Completes an arrival and hands it to the vault by `receiveShipment`. Anyone may.
    /// @param message As the sending chain emitted it.
    /// @param attestation That it did.
    function receiveMessage(bytes calldata message, bytes calldata attestation) external;
}
