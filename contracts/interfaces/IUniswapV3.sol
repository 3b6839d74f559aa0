// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title IUniswapV3Factory
/// @notice What this project calls of Uniswap v3's factory.
interface IUniswapV3Factory {
    /// @notice Creates the pool of two tokens and a fee.
    /// @param fee Hundredths of a basis point: 500, 3000 or 10000.
    function createPool(address tokenA, address tokenB, uint24 fee) external returns (address pool);
}

/// @title IUniswapV3Pool
/// @notice What this project calls of a Uniswap v3 pool. Prices are √(token1 per token0, smallest units) · 2^96.
interface IUniswapV3Pool {
    /// @notice Sets the first price.
    function initialize(uint160 sqrtPriceX96) external;

    /// @notice Adds liquidity to a range of ticks; the caller's `uniswapV3MintCallback` pays.
    function mint(
        address recipient,
        int24 tickLower,
        int24 tickUpper,
        uint128 amount,
        bytes calldata data
    ) external returns (uint256 amount0, uint256 amount1);

    /// @notice Swaps until `amountSpecified` is used up or the price is reached; the caller's `uniswapV3SwapCallback`
    /// pays. Positive amounts are owed to the pool, negative ones are received.
    function swap(
        address recipient,
        bool zeroForOne,
        int256 amountSpecified,
        uint160 sqrtPriceLimitX96,
        bytes calldata data
    ) external returns (int256 amount0, int256 amount1);

    function slot0()
        external
        view
        returns (
            uint160 sqrtPriceX96,
            int24 tick,
            uint16 observationIndex,
            uint16 observationCardinality,
            uint16 observationCardinalityNext,
            uint8 feeProtocol,
            bool unlocked
        );

    function token0() external view returns (address);
    function token1() external view returns (address);
    function tickSpacing() external view returns (int24);
}
