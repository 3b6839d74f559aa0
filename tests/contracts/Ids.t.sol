// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {AssetLib} from "../../contracts/libraries/AssetLib.sol";
import {Test} from "./base/Test.sol";

/// @notice What account and asset ids say of themselves.
contract IdsTest is Test {
    bytes32 private constant PERPETUAL = hex"0145544800000000000000000000000000000000000000000000000000000000";
    bytes32 private constant FUTURE = hex"0245544800000000000069000000000000000000000000000000000000000000";
    bytes32 private constant CALL = hex"0345544800000000000069000000000000000000000000000000000000010000";
    bytes32 private constant PUT = hex"0445544800000000000069000000000000000000000000000000000000010000";

    function test_isInstrument_EachKindHasWhatItHas() public pure {
        bytes32[4] memory kinds = [PERPETUAL, FUTURE, CALL, PUT];
        for (uint256 i; i < 4; ++i) {
            assertTrue(AssetLib.isInstrument(kinds[i]), "well formed");
            assertEq(AssetLib.expiryOf(kinds[i]), i == 0 ? 0 : 0x69000000, "expiry");
            assertFalse(AssetLib.isToken(kinds[i]), "no token");
            assertTrue(AssetLib.isPerpetual(kinds[i]) == (i == 0), "perpetual");
        }
    }

    /// @notice One bit too many or too few makes it none.
    function test_isInstrument_NothingElse() public pure {
        uint256 expiry = uint256(1) << 144;
        uint256 strike = uint256(1) << 16;
        _not(uint256(PERPETUAL) | expiry);
        _not(uint256(PERPETUAL) | strike);
        _not(uint256(PERPETUAL) | (strike << 127));
        _not(uint256(FUTURE) | strike);
        _not(uint256(FUTURE) & ~(uint256(type(uint40).max) << 144));
        _not(uint256(CALL) & ~(uint256(type(uint128).max) << 16));
        _not(uint256(PUT) & ~(uint256(type(uint128).max) << 16));
        _not(uint256(CALL) & ~(uint256(type(uint40).max) << 144));
        _not(uint256(PUT) & ~(uint256(type(uint40).max) << 144));
        bytes32[4] memory kinds = [PERPETUAL, FUTURE, CALL, PUT];
        for (uint256 i; i < 4; ++i) {
            _not(uint256(kinds[i]) | 1);
            _not(uint256(kinds[i]) | (1 << 15));
            // Without an underlying's first letter.
            _not(uint256(kinds[i]) & ~(uint256(0xff) << 240));
        }
        _not((uint256(CALL) << 8 >> 8) | (uint256(5) << 248));
        _not(uint256(CALL) << 8 >> 8);
        _not(0);
    }

    function testFuzz_tokenOf_IsWhatTokenIdWasMadeOf(uint64 chainId, address token) public pure {
        bytes32 id = AssetLib.tokenId(chainId, token);
        (uint64 onChain, address found) = AssetLib.tokenOf(id);
        assertEq(onChain, chainId, "chain");
        assertEq(found, token, "token");
        assertTrue(AssetLib.isToken(id) == (chainId != 0 && token != address(0)), "a token");
        assertFalse(AssetLib.isInstrument(id), "no instrument");
        assertFalse(AssetLib.isToken(bytes32(uint256(id) | (1 << 224))), "nothing above the chain id");
    }

    function testFuzz_claims_IsTheLastSubAccount(address integrator) public pure {
        bytes32 id = AccountLib.claims(integrator);
        assertEq(AccountLib.ownerOf(id), integrator, "owner");
        assertTrue(AccountLib.isClaims(id), "claims");
        assertFalse(AccountLib.isClaims(bytes32(uint256(id) - 1)), "the one before");
        assertFalse(AccountLib.isClaims(bytes32(uint256(id) & ~uint256(1 << 95))), "all bits are wanted");
        assertEq(uint256(AccountLib.transferTarget(id)), 0, "no shipment");
    }

    function testFuzz_transferTarget_OfAShipmentAlone(uint64 chainId, uint256 other) public pure {
        bytes32 id = bytes32((uint256(1) << 64) | chainId);
        assertEq(AccountLib.transferTarget(id), chainId, "target");
        assertEq(AccountLib.ownerOf(id), address(0), "no owner");
        other = bound(other, 0, 255);
        bytes32 flipped = bytes32(uint256(id) ^ (uint256(1) << other));
        assertEq(AccountLib.transferTarget(flipped), other < 64 ? uint64(uint256(flipped)) : 0, "any bit above");
    }

    function test_isReserved_TheThree() public pure {
        for (uint256 i; i < 6; ++i) {
            assertTrue(AccountLib.isReserved(bytes32(i)) == (i > 0 && i < 4), "fund, fees, clearing");
        }
        assertEq(AccountLib.CLEARING, bytes32(uint256(3)), "clearing");
    }

    function _not(uint256 id) private pure {
        assertFalse(AssetLib.isInstrument(bytes32(id)), "an instrument");
        assertFalse(AssetLib.isPerpetual(bytes32(id)), "a perpetual");
    }
}
