// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DevnetSwapper} from "../../contracts/devnet/DevnetSwapper.sol";
import {DevnetToken} from "../../contracts/devnet/DevnetToken.sol";
import {IUniswapV3Factory} from "../../contracts/interfaces/IUniswapV3.sol";
import {Test} from "./base/Test.sol";
import {vm} from "./base/Vm.sol";

/// @notice The cheat codes that read files.
interface Files {
    function readFile(string calldata path) external view returns (string memory);
    function parseJsonBytes(string calldata json, string calldata key) external pure returns (bytes memory);
}

/// @notice Selling to, filling and moving a pool of Uniswap's own, as its package has it compiled.
contract DevnetSwapperTest is Test {
    string private constant FACTORY =
        "node_modules/@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json";
    address private constant SELLER = address(0x5E11E4);
    uint256 private constant ETHER = 1e18;
    /// @dev 3000 USDC (6 decimals) for a WETH, either way round.
    uint160 private constant UP = 4339505179874779489431521;
    uint160 private constant DOWN = 1446501726624926496477173928747177;
    /// @dev √(5000 WETH · 15 million USDC), smallest units.
    uint128 private constant LIQUIDITY = 273861278752583056;

    DevnetToken private weth;
    DevnetToken private usdc;
    DevnetSwapper private swapper;

    function setUp() public {
        (usdc, weth) = (new DevnetToken("USD Coin", "USDC", 6), new DevnetToken("Wrapped Ether", "WETH", 18));
        swapper = new DevnetSwapper(_factory(), address(weth), address(usdc), 500, _price());
        swapper.provide(LIQUIDITY);
        weth.mint(SELLER, 100_000 * ETHER);
        vm.prank(SELLER);
        weth.approve(address(swapper), type(uint256).max);
    }

    function _factory() private returns (IUniswapV3Factory factory) {
        Files files = Files(address(vm));
        bytes memory code = files.parseJsonBytes(files.readFile(FACTORY), ".bytecode");
        assembly ("memory-safe") {
            factory := create(0, add(code, 0x20), mload(code))
        }
        assertTrue(address(factory) != address(0), "factory");
    }

    /// @dev Which address is lower is a matter of luck.
    function _price() private view returns (uint160) {
        return address(weth) < address(usdc) ? UP : DOWN;
    }

    function test_provide_FillsThePoolAtItsPrice() public view {
        address pool = address(swapper.POOL());
        assertAtMost(_distance(weth.balanceOf(pool), 5000 * ETHER), 1e12, "WETH");
        assertAtMost(_distance(usdc.balanceOf(pool), 15_000_000e6), 1e3, "USDC");
    }

    function test_exactInput_SellsForWhatWasQuoted() public {
        (uint256 quoted, uint160 priceAfter) = swapper.quoteExactInput(address(weth), ETHER);
        vm.prank(SELLER);
        uint256 received = swapper.exactInput(address(weth), ETHER, quoted, SELLER, block.timestamp);
        assertEq(received, quoted, "quoted");
        assertEq(usdc.balanceOf(SELLER), quoted, "received");
        assertEq(weth.balanceOf(SELLER), 99_999 * ETHER, "paid");
        assertEq(swapper.sqrtPrice(), priceAfter, "price after");
        // 3000 less five basis points of fee and one five-thousandth of impact.
        assertAtMost(_distance(received, 2997.9e6), 0.1e6, "price");
    }

    function test_exactInput_BothWays() public {
        usdc.mint(SELLER, 3000e6);
        vm.startPrank(SELLER);
        usdc.approve(address(swapper), 3000e6);
        uint256 received = swapper.exactInput(address(usdc), 3000e6, 0.999e18, SELLER, block.timestamp);
        vm.stopPrank();
        assertEq(weth.balanceOf(SELLER), 100_000 * ETHER + received, "received");
        assertEq(usdc.balanceOf(SELLER), 0, "paid");
    }

    function test_exactInput_RevertWhen_TheTermsAreNotMet() public {
        (uint256 quoted,) = swapper.quoteExactInput(address(weth), ETHER);
        vm.warp(1000);
        vm.startPrank(SELLER);
        expectError(abi.encodeWithSelector(DevnetSwapper.SaleExpired.selector, 999, 1000));
        swapper.exactInput(address(weth), ETHER, 0, SELLER, 999);
        expectError(abi.encodeWithSelector(DevnetSwapper.TooLittleReceived.selector, quoted, quoted + 1));
        swapper.exactInput(address(weth), ETHER, quoted + 1, SELLER, 1000);
        expectError(abi.encodeWithSelector(DevnetSwapper.UnknownToken.selector, SELLER));
        swapper.exactInput(SELLER, ETHER, 0, SELLER, 1000);
        expectError(abi.encodeWithSelector(DevnetSwapper.AmountTooLarge.selector, 1 << 255));
        swapper.exactInput(address(weth), 1 << 255, 0, SELLER, 1000);
        vm.stopPrank();
        assertEq(weth.balanceOf(SELLER), 100_000 * ETHER, "nothing sold");
    }

    /// @notice A pool is not emptied by whoever sells everything there is: the price only tends to zero.
    function test_exactInput_RevertWhen_ThePoolCannotTakeItAll() public {
        uint256 everything = 1e38;
        (bool done, bytes memory reason) =
            address(swapper).call(abi.encodeCall(swapper.quoteExactInput, (address(weth), everything)));
        assertFalse(done, "quoted");
        assertEq(bytes32(bytes4(reason)), bytes32(DevnetSwapper.NotAllSold.selector), "reason");
    }

    function test_quoteExactInput_ChangesNothing() public {
        uint160 before = swapper.sqrtPrice();
        swapper.quoteExactInput(address(weth), 1000 * ETHER);
        assertEq(swapper.sqrtPrice(), before, "price");
        assertEq(usdc.balanceOf(address(swapper)), 0, "left");
    }

    function test_swapTo_MovesThePriceBothWays() public {
        uint160 before = swapper.sqrtPrice();
        for (uint160 percent = 80; percent <= 125; percent += 45) {
            uint160 target = before * percent / 100;
            swapper.swapTo(target);
            assertEq(swapper.sqrtPrice(), target, "price");
        }
        (int256 amount0, int256 amount1) = swapper.swapTo(swapper.sqrtPrice());
        assertEq(amount0, 0, "amount0");
        assertEq(amount1, 0, "amount1");
    }

    function test_RevertWhen_NotTheDeployer() public {
        bytes memory refusal = abi.encodeWithSelector(DevnetSwapper.NotDeployer.selector, SELLER);
        vm.startPrank(SELLER);
        expectError(refusal);
        swapper.swapTo(UP);
        expectError(refusal);
        swapper.provide(1);
        vm.stopPrank();
    }

    /// @notice Else anybody would spend what others approved.
    function test_RevertWhen_TheCallbackIsNotThePools() public {
        bytes memory refusal = abi.encodeWithSelector(DevnetSwapper.NotPool.selector, address(this));
        expectError(refusal);
        swapper.uniswapV3SwapCallback(1, 0, abi.encode(1, SELLER));
        expectError(refusal);
        swapper.uniswapV3MintCallback(1, 1, hex"");
    }

    function _distance(uint256 a, uint256 b) private pure returns (uint256) {
        return a > b ? a - b : b - a;
    }
}
