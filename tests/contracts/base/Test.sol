// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {vm} from "./Vm.sol";

/// @title Test
/// @notice Asserts that say what they found, and a range for fuzzed numbers.
abstract contract Test {
    error Unequal(string what, bytes32 found, bytes32 wanted);
    error UnequalInt(string what, int256 found, int256 wanted);
    error UnequalUint(string what, uint256 found, uint256 wanted);
    error Untrue(string what);
    error Above(string what, uint256 found, uint256 limit);

    function assertTrue(bool holds, string memory what) internal pure {
        if (!holds) revert Untrue(what);
    }

    function assertFalse(bool holds, string memory what) internal pure {
        if (holds) revert Untrue(string.concat("not: ", what));
    }

    function assertEq(uint256 found, uint256 wanted, string memory what) internal pure {
        if (found != wanted) revert UnequalUint(what, found, wanted);
    }

    function assertEq(int256 found, int256 wanted, string memory what) internal pure {
        if (found != wanted) revert UnequalInt(what, found, wanted);
    }

    function assertEq(bytes32 found, bytes32 wanted, string memory what) internal pure {
        if (found != wanted) revert Unequal(what, found, wanted);
    }

    function assertEq(address found, address wanted, string memory what) internal pure {
        if (found != wanted) revert Unequal(what, bytes32(bytes20(found)), bytes32(bytes20(wanted)));
    }

    function assertEq(string memory found, string memory wanted, string memory what) internal pure {
        if (keccak256(bytes(found)) != keccak256(bytes(wanted))) {
            revert Untrue(string.concat(what, ": ", found, " is not ", wanted));
        }
    }

    function assertAtMost(uint256 found, uint256 limit, string memory what) internal pure {
        if (found > limit) revert Above(what, found, limit);
    }

    /// @return `value` itself where it lies in the range, else a number of the range made from it.
    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        if (value >= low && value <= high) return value;
        uint256 width = high - low + 1;
        return width == 0 ? value : low + value % width;
    }

    /// @dev The next call must revert with exactly this error and these values.
    function expectError(bytes memory data) internal {
        vm.expectRevert(data);
    }
}
