// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IBridge} from "./interfaces/IBridge.sol";
import {IClearingHouse} from "./interfaces/IClearingHouse.sol";
import {ICollateralVault} from "./interfaces/ICollateralVault.sol";
import {IMarginVerifier} from "./interfaces/IMarginVerifier.sol";
import {AccountLib} from "./libraries/AccountLib.sol";
import {Errors} from "./libraries/Errors.sol";
import {Events} from "./libraries/Events.sol";
import {HashLib} from "./libraries/HashLib.sol";
import {Permit, Unlink, Withdraw} from "./libraries/Types.sol";

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
    address public immutable RESERVATIONS;
    /// @notice Zero where nothing is shipped from here.
    IBridge public immutable BRIDGE;
    /// @dev From amounts of the settlement token to USD 1e18.
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
    mapping(address token => uint256) public scaleOf;
    /// @inheritdoc ICollateralVault
    uint256 public settlementHeld;

    /// @param collateral Tokens taken besides the settlement token, at most 18 decimals each.
    /// @param bridge Zero where there is none: then nothing is shipped from here.
    constructor(
        IMarginVerifier verifier,
        IClearingHouse clearingHouse,
        address settlementToken,
        address[] memory collateral,
        address reservations,
        IBridge bridge
    ) {
        if (address(verifier) == address(0)) revert Errors.BadConfiguration("verifier");
        if (address(clearingHouse) == address(0)) revert Errors.BadConfiguration("clearingHouse");
        if (reservations == address(0)) revert Errors.BadConfiguration("reservations");
        if (collateral.length > MAX_LINKS) revert Errors.BadConfiguration("collateral");
        VERIFIER = verifier;
        CLEARING_HOUSE = clearingHouse;
        SETTLEMENT_TOKEN = settlementToken;
        RESERVATIONS = reservations;
        BRIDGE = bridge;
        SETTLEMENT_SCALE = _scale(settlementToken);
        scaleOf[settlementToken] = SETTLEMENT_SCALE;
        for (uint256 i; i < collateral.length; ++i) {
            address token = collateral[i];
            if (token == settlementToken || isListed[token]) revert Errors.BadConfiguration("collateral");
            isListed[token] = true;
            scaleOf[token] = _scale(token);
        }
    }

    function _scale(address token) private view returns (uint256) {
        uint256 decimals = IERC20Metadata(token).decimals();
        if (decimals > MAX_DECIMALS) revert Errors.TooManyDecimals(token, decimals);
        return 10 ** (MAX_DECIMALS - decimals);
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
        if (AccountLib.isClaims(accountId)) revert Errors.ClaimsAccount(accountId);
        if (linkChains.length != 0) _link(accountId, linkChains);
        if (token != SETTLEMENT_TOKEN && !isListed[token]) revert Errors.TokenNotListed(token);

        uint256 arrived = _pull(token, msg.sender, amount);
        if (arrived == 0) revert Errors.NothingArrived(token);

        if (token == SETTLEMENT_TOKEN) {
            _setHeld(settlementHeld + arrived);
            depositedOf[accountId] += arrived;
            emit Events.DepositedSet(accountId, depositedOf[accountId]);
            CLEARING_HOUSE.credit(accountId, arrived * SETTLEMENT_SCALE);
        } else {
            totalOf[token] += arrived;
            _setBalance(accountId, token, balanceOf[accountId][token] + arrived);
        }
        emit Events.Deposited(accountId, token, arrived, msg.sender);
    }

    /// @dev What arrives counts, not what was asked for: a token may keep a fee.
    function _pull(address token, address from, uint256 amount) private returns (uint256) {
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(from, address(this), amount);
        return IERC20(token).balanceOf(address(this)) - before;
    }

    /// @inheritdoc ICollateralVault
    function link(bytes32 accountId, uint64[] calldata chainIds) external {
        if (chainIds.length == 0) revert Errors.ZeroAmount();
        _link(accountId, chainIds);
    }

    /// @dev CM-09: only the owner, and only adds: what parts wants a permit. A link counts once the other chain has one
    /// back.
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

    /// @inheritdoc ICollateralVault
    function unlink(Unlink calldata action, Permit calldata permit, bytes calldata signatures) external nonReentrant {
        AccountLib.requireOwner(action.accountId);
        if (!isLinked[action.accountId][action.chainId]) revert Errors.NotLinked(action.accountId, action.chainId);
        isLinked[action.accountId][action.chainId] = false;
        _consume(action.accountId, HashLib.hash(action), permit, signatures);
        emit Events.Unlinked(action.accountId, action.chainId);
    }

    /// @dev A permit never replaces the owner: whoever calls this has checked the sender.
    function _consume(
        bytes32 accountId,
        bytes32 actionHash,
        Permit calldata permit,
        bytes calldata signatures
    ) private {
        if (permit.accountId != accountId || permit.counterpartyId != 0) {
            revert Errors.PermitAccountMismatch(permit.accountId, permit.counterpartyId);
        }
        if (permit.actionHash != actionHash) revert Errors.ActionMismatch(actionHash, permit.actionHash);
        VERIFIER.consumePermit(permit, signatures);
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
        _consume(action.accountId, HashLib.hash(action), permit, signatures);

        if (action.token == SETTLEMENT_TOKEN) {
            _takeAvailable(action.amount);
            CLEARING_HOUSE.debit(action.accountId, action.amount * SETTLEMENT_SCALE);
        } else {
            _takeBalance(action.accountId, action.token, action.amount);
            totalOf[action.token] -= action.amount;
        }
        emit Events.Withdrawn(action.accountId, action.token, action.amount, action.receiver);
        IERC20(action.token).safeTransfer(action.receiver, action.amount);
    }

    /// @inheritdoc ICollateralVault
    function payClaim(address integrator, uint256 amount) external nonReentrant {
        if (msg.sender != RESERVATIONS) revert Errors.NotReservations(msg.sender);
        _takeAvailable(amount);
        CLEARING_HOUSE.debit(AccountLib.claims(integrator), amount * SETTLEMENT_SCALE);
        IERC20(SETTLEMENT_TOKEN).safeTransfer(integrator, amount);
    }

    /// @inheritdoc ICollateralVault
    function available() public view returns (uint256) {
        int256 claims = CLEARING_HOUSE.claims();
        if (claims >= 0) return settlementHeld;
        uint256 owed = Math.ceilDiv(uint256(-claims), SETTLEMENT_SCALE);
        return settlementHeld > owed ? settlementHeld - owed : 0;
    }

    function _takeAvailable(uint256 amount) private {
        uint256 most = available();
        if (amount > most) revert Errors.InsufficientHeld(most, amount);
        _setHeld(settlementHeld - amount);
    }

    // --- between chains --------------------------------------------------------------------------------------------

    /// @inheritdoc ICollateralVault
    function ship(uint64 toChain, uint256 amount) external nonReentrant {
        _requireClearingHouse();
        if (address(BRIDGE) == address(0)) revert Errors.NoBridge();
        if (amount > settlementHeld) revert Errors.InsufficientHeld(settlementHeld, amount);
        _setHeld(settlementHeld - amount);
        emit Events.Shipped(toChain, amount);
        IERC20(SETTLEMENT_TOKEN).forceApprove(address(BRIDGE), amount);
        // A bridge reverts where it does not send; it is no address's `send` of ether.
        // solhint-disable-next-line check-send-result
        BRIDGE.send(toChain, amount);
    }

    /// @inheritdoc ICollateralVault
    function receiveShipment(uint256 sent, uint256 arrived) external nonReentrant {
        if (msg.sender != address(BRIDGE)) revert Errors.NotBridge(msg.sender);
        uint256 measured = _pull(SETTLEMENT_TOKEN, msg.sender, arrived);
        if (measured > sent) revert Errors.ArrivedMoreThanSent(sent, measured);
        _setHeld(settlementHeld + measured);
        emit Events.Arrived(sent, measured);
        CLEARING_HOUSE.received(sent * SETTLEMENT_SCALE, measured * SETTLEMENT_SCALE);
    }

    // --- between accounts ------------------------------------------------------------------------------------------

    /// @inheritdoc ICollateralVault
    function transferBalance(bytes32 from, bytes32 to, address token, uint256 amount) external {
        _requireClearingHouse();
        _takeBalance(from, token, amount);
        _setBalance(to, token, balanceOf[to][token] + amount);
    }

    function _requireClearingHouse() private view {
        if (msg.sender != address(CLEARING_HOUSE)) revert Errors.NotClearingHouse(msg.sender);
    }

    function _takeBalance(bytes32 accountId, address token, uint256 amount) private {
        uint256 balance = balanceOf[accountId][token];
        if (amount > balance) revert Errors.InsufficientBalance(accountId, token, balance, amount);
        _setBalance(accountId, token, balance - amount);
    }

    function _setHeld(uint256 held) private {
        settlementHeld = held;
        emit Events.SettlementHeldSet(held);
    }

    function _setBalance(bytes32 accountId, address token, uint256 balance) private {
        balanceOf[accountId][token] = balance;
        emit Events.BalanceSet(accountId, token, balance);
    }
}
