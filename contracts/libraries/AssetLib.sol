// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title AssetLib
/// @notice What an asset id says of itself. An instrument: kind (1 byte) ‖ underlying (8 bytes ASCII) ‖ expiry (5) ‖
/// strike (16) ‖ 2 zero bytes. A token: 4 zero bytes ‖ chain id (8) ‖ address (20).
library AssetLib {
    uint8 internal constant PERPETUAL = 1;
    uint8 internal constant FUTURE = 2;
    uint8 internal constant CALL = 3;
    uint8 internal constant PUT = 4;

    /// @return Whether the id is an instrument's: a perpetual has neither expiry nor strike, a future no strike, a call
    /// and a put have both.
    function isInstrument(bytes32 asset) internal pure returns (bool) {
        if (asset[1] == 0 || uint16(uint256(asset)) != 0) return false;
        uint8 kind = uint8(asset[0]);
        bool expires = expiryOf(asset) != 0;
        bool strikes = uint128(uint256(asset) >> 16) != 0;
        if (kind == PERPETUAL) return !expires && !strikes;
        if (kind == FUTURE) return expires && !strikes;
        return (kind == CALL || kind == PUT) && expires && strikes;
    }

    /// @return Whether the id is a perpetual's and nothing is set that a perpetual does not have.
    function isPerpetual(bytes32 asset) internal pure returns (bool) {
        return uint8(asset[0]) == PERPETUAL && isInstrument(asset);
    }

    /// @return When an instrument expires, unix seconds; zero for a perpetual. Means nothing for another id.
    function expiryOf(bytes32 asset) internal pure returns (uint64) {
        return uint40(uint256(asset) >> 144);
    }

    /// @return Whether the id is a token's.
    function isToken(bytes32 asset) internal pure returns (bool) {
        (uint64 chainId, address token) = tokenOf(asset);
        return uint256(asset) >> 224 == 0 && chainId != 0 && token != address(0);
    }

    /// @return chainId Where a token is.
    /// @return token Its address there. Both mean nothing for an instrument.
    function tokenOf(bytes32 asset) internal pure returns (uint64 chainId, address token) {
        return (uint64(uint256(asset) >> 160), address(uint160(uint256(asset))));
    }

    /// @return The id of a token on a chain.
    function tokenId(uint64 chainId, address token) internal pure returns (bytes32) {
        return bytes32((uint256(chainId) << 160) | uint160(token));
    }
}
