// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Test} from "./Test.sol";
import {vm} from "./Vm.sol";

/// @title Signers
/// @notice Keys, and signatures by them. Key lists are sorted by address, as the contracts want signers.
abstract contract Signers is Test {
    /// @dev The order of secp256k1.
    uint256 internal constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    /// @return keys `count` keys made from a name, by ascending address.
    function keysOf(string memory name, uint256 count) internal pure returns (uint256[] memory keys) {
        keys = new uint256[](count);
        for (uint256 i; i < count; ++i) {
            uint256 key = uint256(keccak256(abi.encode(name, i))) % ORDER;
            uint256 j = i;
            for (; j != 0 && vm.addr(keys[j - 1]) > vm.addr(key); --j) {
                keys[j] = keys[j - 1];
            }
            keys[j] = key;
        }
    }

    function addressesOf(uint256[] memory keys) internal pure returns (address[] memory accounts) {
        accounts = new address[](keys.length);
        for (uint256 i; i < keys.length; ++i) {
            accounts[i] = vm.addr(keys[i]);
        }
    }

    /// @return 65 bytes: r ‖ s ‖ v.
    function sign(bytes32 digest, uint256 key) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @return signatures By each of `keys`, in their order.
    function sign(bytes32 digest, uint256[] memory keys) internal pure returns (bytes memory signatures) {
        for (uint256 i; i < keys.length; ++i) {
            signatures = bytes.concat(signatures, sign(digest, keys[i]));
        }
    }

    /// @return Whom the first of `signatures` recovers to: no member, where it is over another digest.
    function recover(bytes32 digest, bytes memory signatures) internal pure returns (address) {
        bytes32 r;
        bytes32 s;
        uint8 v;
        assembly ("memory-safe") {
            r := mload(add(signatures, 0x20))
            s := mload(add(signatures, 0x40))
            v := byte(0, mload(add(signatures, 0x60)))
        }
        return ecrecover(digest, v, r, s);
    }

    /// @return picked The keys at these places, in the order given.
    function pick(uint256[] memory keys, uint256 a, uint256 b) internal pure returns (uint256[] memory picked) {
        picked = new uint256[](2);
        (picked[0], picked[1]) = (keys[a], keys[b]);
    }

    /// @return picked The keys at these places, in the order given.
    function pick(
        uint256[] memory keys,
        uint256 a,
        uint256 b,
        uint256 c
    ) internal pure returns (uint256[] memory picked) {
        picked = new uint256[](3);
        (picked[0], picked[1], picked[2]) = (keys[a], keys[b], keys[c]);
    }
}
