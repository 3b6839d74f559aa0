// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IUniswapV3Factory, IUniswapV3Pool} from "../interfaces/IUniswapV3.sol";
import {DevnetToken} from "./DevnetToken.sol";

/// @title DevnetSwapper
/// @notice One Uniswap v3 pool of two devnet tokens: sells to it for anybody, and for its deployer provides liquidity and
/// moves its price, which on a real chain others do. For the devnet and tests only.
/// @dev What the deployer's acts cost is minted.
contract DevnetSwapper {
    using SafeERC20 for IERC20;

    /// @notice Only the deployer provides liquidity and moves the price.
    error NotDeployer(address caller);
    /// @notice Only the pool calls back.
    error NotPool(address caller);
    /// @notice The pool trades other tokens.
    error UnknownToken(address token);
    /// @notice More than a swap can be given.
    error AmountTooLarge(uint256 amount);
    /// @notice The sale came too late.
    error SaleExpired(uint256 deadline, uint256 blockTime);
    /// @notice The sale would bring less than wanted.
    error TooLittleReceived(uint256 amountOut, uint256 least);
    /// @notice The pool's liquidity ends before the whole amount is sold.
    error NotAllSold(uint256 sold, uint256 amountIn);
    /// @notice The pool swapped without asking for its payment.
    error NoCallback();
    /// @notice The answer to a quote, by which its swap is undone.
    error Quoted(int256 amount0, int256 amount1, uint160 sqrtPriceX96);

    /// @notice Somebody sold to the pool.
    event Sold(address indexed seller, address indexed tokenIn, uint256 amountIn, uint256 amountOut);

    /// @dev The pool's own limits of a price.
    uint160 private constant MIN_SQRT_PRICE = 4295128739;
    uint160 private constant MAX_SQRT_PRICE = 1461446703485210103287273052203988822378723970342;
    int24 private constant MAX_TICK = 887272;

    address public immutable DEPLOYER;
    IUniswapV3Pool public immutable POOL;
    DevnetToken public immutable TOKEN0;
    DevnetToken public immutable TOKEN1;

    enum Payer {
        Minted,
        Seller,
        Nobody
    }

    /// @notice Creates the pool.
    /// @param fee Hundredths of a basis point.
    /// @param sqrtPriceX96 Its first price: √(token1 per token0, smallest units) · 2^96, token0 the lower address.
    constructor(IUniswapV3Factory factory, address tokenA, address tokenB, uint24 fee, uint160 sqrtPriceX96) {
        DEPLOYER = msg.sender;
        POOL = IUniswapV3Pool(factory.createPool(tokenA, tokenB, fee));
        (TOKEN0, TOKEN1) =
            tokenA < tokenB ? (DevnetToken(tokenA), DevnetToken(tokenB)) : (DevnetToken(tokenB), DevnetToken(tokenA));
        POOL.initialize(sqrtPriceX96);
    }

    // --- for anybody -----------------------------------------------------------------------------------------------

    /// @notice Sells exactly `amountIn` of the caller's tokens, which it approved here.
    /// @param least Least amount of the other token; less reverts.
    /// @param deadline Last block time, unix seconds, at which the sale is wanted.
    /// @return amountOut What `recipient` received.
    function exactInput(
        address tokenIn,
        uint256 amountIn,
        uint256 least,
        address recipient,
        uint256 deadline
    ) external returns (uint256 amountOut) {
        if (block.timestamp > deadline) revert SaleExpired(deadline, block.timestamp);
        uint256 sold;
        (sold, amountOut) = _sell(tokenIn, amountIn, recipient, abi.encode(Payer.Seller, msg.sender));
        if (sold < amountIn) revert NotAllSold(sold, amountIn);
        if (amountOut < least) revert TooLittleReceived(amountOut, least);
        emit Sold(msg.sender, tokenIn, amountIn, amountOut);
    }

    /// @notice What a sale of `amountIn` would bring now, and the price after it. Made by a swap that is undone: for
    /// calls off chain.
    function quoteExactInput(
        address tokenIn,
        uint256 amountIn
    ) external returns (uint256 amountOut, uint160 sqrtPriceX96) {
        bool zeroForOne = _isToken0(tokenIn);
        bytes memory reason;
        try this.trySell(tokenIn, amountIn) {
            revert NoCallback();
        } catch (bytes memory thrown) {
            reason = thrown;
        }
        if (reason.length != 100 || bytes4(reason) != Quoted.selector) {
            assembly ("memory-safe") {
                revert(add(reason, 0x20), mload(reason))
            }
        }
        int256 amount0;
        int256 amount1;
        assembly ("memory-safe") {
            amount0 := mload(add(reason, 0x24))
            amount1 := mload(add(reason, 0x44))
            sqrtPriceX96 := mload(add(reason, 0x64))
        }
        (int256 sold, int256 received) = zeroForOne ? (amount0, amount1) : (amount1, amount0);
        if (uint256(sold) < amountIn) revert NotAllSold(uint256(sold), amountIn);
        amountOut = uint256(-received);
    }

    /// @notice A sale that nobody pays, so that it always reverts: with `Quoted` where it would work.
    function trySell(address tokenIn, uint256 amountIn) external {
        _sell(tokenIn, amountIn, address(this), abi.encode(Payer.Nobody, address(0)));
    }

    /// @return The pool's price: √(token1 per token0, smallest units) · 2^96.
    function sqrtPrice() public view returns (uint160) {
        (uint160 sqrtPriceX96,,,,,,) = POOL.slot0();
        return sqrtPriceX96;
    }

    // --- for the deployer ------------------------------------------------------------------------------------------

    /// @notice Provides liquidity over the whole range of prices.
    /// @param liquidity √(amount of token0 · amount of token1), smallest units.
    function provide(uint128 liquidity) external returns (uint256 amount0, uint256 amount1) {
        if (msg.sender != DEPLOYER) revert NotDeployer(msg.sender);
        int24 spacing = POOL.tickSpacing();
        int24 end = MAX_TICK / spacing * spacing;
        return POOL.mint(address(this), -end, end, liquidity, hex"");
    }

    /// @notice Moves the pool to a price, as arbitrage would: buys or sells until it is reached.
    function swapTo(uint160 sqrtPriceX96) external returns (int256 amount0, int256 amount1) {
        if (msg.sender != DEPLOYER) revert NotDeployer(msg.sender);
        uint160 present = sqrtPrice();
        if (sqrtPriceX96 == present) return (0, 0);
        bytes memory data = abi.encode(Payer.Minted, address(0));
        return POOL.swap(address(this), sqrtPriceX96 < present, type(int256).max, sqrtPriceX96, data);
    }

    // --- for the pool ----------------------------------------------------------------------------------------------

    function uniswapV3MintCallback(uint256 amount0, uint256 amount1, bytes calldata) external {
        if (msg.sender != address(POOL)) revert NotPool(msg.sender);
        TOKEN0.mint(msg.sender, amount0);
        TOKEN1.mint(msg.sender, amount1);
    }

    function uniswapV3SwapCallback(int256 amount0, int256 amount1, bytes calldata data) external {
        if (msg.sender != address(POOL)) revert NotPool(msg.sender);
        (Payer payer, address seller) = abi.decode(data, (Payer, address));
        if (payer == Payer.Nobody) revert Quoted(amount0, amount1, sqrtPrice());
        (DevnetToken token, uint256 owed) = amount0 > 0 ? (TOKEN0, uint256(amount0)) : (TOKEN1, uint256(amount1));
        if (payer == Payer.Minted) token.mint(msg.sender, owed);
        else IERC20(token).safeTransferFrom(seller, msg.sender, owed);
    }

    function _sell(
        address tokenIn,
        uint256 amountIn,
        address recipient,
        bytes memory data
    ) private returns (uint256 sold, uint256 received) {
        bool zeroForOne = _isToken0(tokenIn);
        if (amountIn > uint256(type(int256).max)) revert AmountTooLarge(amountIn);
        uint160 limit = zeroForOne ? MIN_SQRT_PRICE + 1 : MAX_SQRT_PRICE - 1;
        (int256 amount0, int256 amount1) = POOL.swap(recipient, zeroForOne, int256(amountIn), limit, data);
        return zeroForOne ? (uint256(amount0), uint256(-amount1)) : (uint256(amount1), uint256(-amount0));
    }

    function _isToken0(address token) private view returns (bool) {
        if (token != address(TOKEN0) && token != address(TOKEN1)) revert UnknownToken(token);
        return token == address(TOKEN0);
    }
}
