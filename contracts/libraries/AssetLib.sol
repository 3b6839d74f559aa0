// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title AssetLib
/// @notice What an asset id says of itself. An instrument: kind (1 byte) ‖ underlying (8 bytes ASCII) ‖ expiry (5) ‖
/// strike (16) ‖ 2 zero bytes. A token: 4 zero bytes ‖ chain id (8) ‖ address (20).
library AssetLib {
    uint8 internal constant PERPETUAL = 1;

    /// @return Whether the id is a perpetual's and nothing is set that a perpetual does not have.
    function isPerpetual(bytes32 asset) internal pure returns (bool) {
        return uint8(asset[0]) == PERPETUAL && asset[1] != 0 && uint256(asset) << 72 == 0;
    }

    /// @return The id of a token on a chain.
    function tokenId(uint64 chainId, address token) internal pure returns (bytes32) {
        return bytes32((uint256(chainId) << 160) | uint160(token));
    }
}
