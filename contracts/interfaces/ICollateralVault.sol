// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Permit, Unlink, Withdraw} from "../libraries/Types.sol";

/// @title ICollateralVault
/// @notice Every ERC-20 of one chain. The settlement token becomes cash in the clearing house at once.
interface ICollateralVault {
    /// @notice Takes `amount` of `token` from the sender for an account: anybody's, since it only adds.
    /// @param amount In the token's decimals; what arrives is measured and counts.
    /// @param linkChains Chains to link in the same transaction; empty, or the sender must own the account.
    function deposit(bytes32 accountId, address token, uint256 amount, uint64[] calldata linkChains) external;

    /// @notice Names chains that belong to the account with this one. Only the owner; only adds. Chains count
    /// together once each has named the other.
    function link(bytes32 accountId, uint64[] calldata chainIds) external;

    /// @notice Takes back the naming of a chain, which parts the account there from the account here, as a quorum
    /// permitted. Only the owner. Each part counts alone once this is final; the owner may link again without a permit.
    /// @param action `chainId` is one that this chain names.
    function unlink(Unlink calldata action, Permit calldata permit, bytes calldata signatures) external;

    /// @notice Pays out what a quorum permitted. Only the owner, who names the receiver in the action.
    /// @param action `amount` in the token's decimals.
    function withdraw(Withdraw calldata action, Permit calldata permit, bytes calldata signatures) external;

    /// @notice Only the clearing house: moves collateral between accounts.
    /// @param amount Token decimals.
    function transferBalance(bytes32 from, bytes32 to, address token, uint256 amount) external;

    /// @notice Only the clearing house: sends settlement token to the vault of another chain.
    /// @param amount Token decimals. Reverts while so much is not here.
    function ship(uint64 toChain, uint256 amount) external;

    /// @notice Only the bridge, which approved what arrived: takes it in.
    /// @param sent What the other chain shipped, token decimals.
    /// @param arrived What came of it; what is measured counts.
    function receiveShipment(uint256 sent, uint256 arrived) external;

    /// @notice Only the reservations: pays an integrator what it claimed.
    /// @param amount Token decimals.
    function payClaim(address integrator, uint256 amount) external;

    /// @return Collateral of an account, token decimals. Always zero for the settlement token: that is cash.
    function balanceOf(bytes32 accountId, address token) external view returns (uint256);

    /// @return Sum of all accounts' balances of a token, token decimals.
    function totalOf(address token) external view returns (uint256);

    /// @return Settlement token ever deposited for an account on this chain, token decimals.
    function depositedOf(bytes32 accountId) external view returns (uint256);

    /// @return Settlement token held for the clearing house's cash, token decimals.
    function settlementHeld() external view returns (uint256);

    /// @return Settlement token that may leave for accounts and integrators, token decimals: what is held less what this
    /// chain owes others, rounded up.
    function available() external view returns (uint256);

    /// @return Whether the account's owner named `chainId` on this chain.
    function isLinked(bytes32 accountId, uint64 chainId) external view returns (bool);

    /// @return Whether a token is taken as collateral. False for the settlement token.
    function isListed(address token) external view returns (bool);

    /// @return The settlement token.
    function SETTLEMENT_TOKEN() external view returns (address);

    /// @return 1e18 in smallest units of a token: from its amounts to whole units. Zero for a token not taken here.
    function scaleOf(address token) external view returns (uint256);
}
