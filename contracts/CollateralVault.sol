// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IClearingHouse} from "./interfaces/IClearingHouse.sol";
import {ICollateralVault} from "./interfaces/ICollateralVault.sol";
import {IMarginVerifier} from "./interfaces/IMarginVerifier.sol";
import {AccountLib} from "./libraries/AccountLib.sol";
import {Errors} from "./libraries/Errors.sol";
import {Events} from "./libraries/Events.sol";
import {HashLib} from "./libraries/HashLib.sol";
import {Permit, Withdraw} from "./libraries/Types.sol";

/// @title CollateralVault
/// @notice Every ERC-20 of one chain. Settlement token deposited becomes cash in the clearing house at once.
/// @dev Immutable and without an owner. Tokens that rebase, or call back, are not to be listed. Carries CM-09, CM-20.
contract CollateralVault is ICollateralVault, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 private constant MAX_DECIMALS = 18;
    /// @notice Most chains one call links.
    uint256 public constant MAX_LINKS = 16;

    IMarginVerifier public immutable VERIFIER;
    IClearingHouse public immutable CLEARING_HOUSE;
    address public immutable SETTLEMENT_TOKEN;
    /// @dev From token amounts to USD 1e18.
    uint256 private immutable SETTLEMENT_SCALE;

    /// @inheritdoc ICollateralVault
    mapping(bytes32 accountId => mapping(address token => uint256)) public balanceOf;
    /// @inheritdoc ICollateralVault
    mapping(address token => uint256) public totalOf;
    /// @inheritdoc ICollateralVault
    mapping(bytes32 accountId => uint256) public depositedOf;
    /// @inheritdoc ICollateralVault
    mapping(bytes32 accountId => mapping(uint64 chainId => bool)) public isLinked;
    /// @inheritdoc ICollateralVault
    mapping(address token => bool) public isListed;
    /// @inheritdoc ICollateralVault
    uint256 public settlementHeld;

    /// @param collateral Tokens taken besides the settlement token, at most 18 decimals each.
    constructor(
        IMarginVerifier verifier,
        IClearingHouse clearingHouse,
        address settlementToken,
        address[] memory collateral
    ) {
        if (address(verifier) == address(0)) revert Errors.BadConfiguration("verifier");
        if (address(clearingHouse) == address(0)) revert Errors.BadConfiguration("clearingHouse");
        if (collateral.length > MAX_LINKS) revert Errors.BadConfiguration("collateral");
        VERIFIER = verifier;
        CLEARING_HOUSE = clearingHouse;
        SETTLEMENT_TOKEN = settlementToken;
        SETTLEMENT_SCALE = 10 ** (MAX_DECIMALS - _decimals(settlementToken));
        for (uint256 i; i < collateral.length; ++i) {
            address token = collateral[i];
            if (token == settlementToken || isListed[token]) revert Errors.BadConfiguration("collateral");
            _decimals(token);
            isListed[token] = true;
        }
    }

    function _decimals(address token) private view returns (uint256 decimals) {
        decimals = IERC20Metadata(token).decimals();
        if (decimals > MAX_DECIMALS) revert Errors.TooManyDecimals(token, decimals);
    }

    // --- in --------------------------------------------------------------------------------------------------------

    /// @inheritdoc ICollateralVault
    function deposit(
        bytes32 accountId,
        address token,
        uint256 amount,
        uint64[] calldata linkChains
    ) external nonReentrant {
        if (AccountLib.ownerOf(accountId) == address(0) && accountId != AccountLib.FUND) {
            revert Errors.NoOwner(accountId);
        }
        if (linkChains.length != 0) _link(accountId, linkChains);
        if (token != SETTLEMENT_TOKEN && !isListed[token]) revert Errors.TokenNotListed(token);

        // What arrives counts, not what was asked for: a token may keep a fee.
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        uint256 arrived = IERC20(token).balanceOf(address(this)) - before;
        if (arrived == 0) revert Errors.NothingArrived(token);

        if (token == SETTLEMENT_TOKEN) {
            settlementHeld += arrived;
            depositedOf[accountId] += arrived;
            emit Events.SettlementHeldSet(settlementHeld);
            emit Events.DepositedSet(accountId, depositedOf[accountId]);
            CLEARING_HOUSE.credit(accountId, arrived * SETTLEMENT_SCALE);
        } else {
            totalOf[token] += arrived;
            _setBalance(accountId, token, balanceOf[accountId][token] + arrived);
        }
        emit Events.Deposited(accountId, token, arrived, msg.sender);
    }

    /// @inheritdoc ICollateralVault
    function link(bytes32 accountId, uint64[] calldata chainIds) external {
        if (chainIds.length == 0) revert Errors.ZeroAmount();
        _link(accountId, chainIds);
    }

    /// @dev CM-09: only the owner, and only adds. A link counts once the other chain has one back.
    function _link(bytes32 accountId, uint64[] calldata chainIds) private {
        AccountLib.requireOwner(accountId);
        if (chainIds.length > MAX_LINKS) revert Errors.TooManyChains(chainIds.length, MAX_LINKS);
        for (uint256 i; i < chainIds.length; ++i) {
            uint64 chainId = chainIds[i];
            if (chainId == 0) revert Errors.BadChain(chainId);
            if (isLinked[accountId][chainId] || chainId == block.chainid) continue;
            isLinked[accountId][chainId] = true;
            emit Events.Linked(accountId, chainId);
        }
    }

    // --- out -------------------------------------------------------------------------------------------------------

    /// @inheritdoc ICollateralVault
    function withdraw(
        Withdraw calldata action,
        Permit calldata permit,
        bytes calldata signatures
    ) external nonReentrant {
        AccountLib.requireOwner(action.accountId);
        if (action.receiver == address(0) || action.receiver == address(this)) {
            revert Errors.BadAddress(action.receiver);
        }
        if (action.amount == 0) revert Errors.ZeroAmount();
        if (permit.accountId != action.accountId || permit.counterpartyId != 0) {
            revert Errors.PermitAccountMismatch(permit.accountId, permit.counterpartyId);
        }
        bytes32 actionHash = HashLib.hash(action);
        if (permit.actionHash != actionHash) revert Errors.ActionMismatch(actionHash, permit.actionHash);
        VERIFIER.consumePermit(permit, signatures);

        if (action.token == SETTLEMENT_TOKEN) {
            if (action.amount > settlementHeld) revert Errors.InsufficientHeld(settlementHeld, action.amount);
            settlementHeld -= action.amount;
            emit Events.SettlementHeldSet(settlementHeld);
            CLEARING_HOUSE.debit(action.accountId, action.amount * SETTLEMENT_SCALE);
        } else {
            uint256 balance = balanceOf[action.accountId][action.token];
            if (action.amount > balance) {
                revert Errors.InsufficientBalance(action.accountId, action.token, balance, action.amount);
            }
            totalOf[action.token] -= action.amount;
            _setBalance(action.accountId, action.token, balance - action.amount);
        }
        emit Events.Withdrawn(action.accountId, action.token, action.amount, action.receiver);
        IERC20(action.token).safeTransfer(action.receiver, action.amount);
    }

    function _setBalance(bytes32 accountId, address token, uint256 balance) private {
        balanceOf[accountId][token] = balance;
        emit Events.BalanceSet(accountId, token, balance);
    }
}
