// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IBridge} from "../interfaces/IBridge.sol";
import {IMessageTransmitterV2, ITokenMessengerV2} from "../interfaces/ICctp.sol";
import {ICollateralVault} from "../interfaces/ICollateralVault.sol";
import {CctpLib} from "../libraries/CctpLib.sol";
import {Errors} from "../libraries/Errors.sol";
import {Events} from "../libraries/Events.sol";

/// @title CctpBridge
/// @notice Moves the settlement token between vaults by Circle's CCTP version 2: burnt here, minted there.
/// @dev Immutable and without an owner; holds nothing between transactions. Both the recipient of the mint and the only
/// caller that may complete it are the adapter on the other chain, so that no arrival passes its receipt (CM-30).
/// Tokens that somebody else sends here belong to nobody: what a message brought is measured around its delivery.
contract CctpBridge is IBridge, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 private constant BASIS_POINTS = 10_000;

    /// @param token The settlement token, which CCTP burns and mints here.
    /// @param chainIds The other chains of the deployment; `domains` are Circle's numbers of them, `remotes` their
    /// adapters.
    /// @param maxFeeBps Most that Circle may keep of a shipment, basis points; it is the fund's loss.
    /// @param minFinalityThreshold 2000: attested when final, for no fee or the least, and never expiring. 1000: faster.
    struct Config {
        ICollateralVault vault;
        IERC20 token;
        ITokenMessengerV2 tokenMessenger;
        IMessageTransmitterV2 messageTransmitter;
        uint64[] chainIds;
        uint32[] domains;
        bytes32[] remotes;
        uint256 maxFeeBps;
        uint32 minFinalityThreshold;
    }

    struct Route {
        uint32 domain;
        bytes32 remote;
    }

    ICollateralVault public immutable VAULT;
    IERC20 public immutable TOKEN;
    ITokenMessengerV2 public immutable TOKEN_MESSENGER;
    IMessageTransmitterV2 public immutable MESSAGE_TRANSMITTER;
    uint256 public immutable MAX_FEE_BPS;
    uint32 public immutable MIN_FINALITY_THRESHOLD;

    /// @notice Where shipments to a chain go: Circle's number of it and its adapter.
    mapping(uint64 chainId => Route) public routeOf;
    /// @notice The chain of a domain; zero for a domain that is none of the deployment's.
    mapping(uint32 domain => uint64) public chainOf;

    constructor(Config memory config) {
        if (address(config.vault) == address(0)) revert Errors.BadConfiguration("vault");
        if (address(config.token) == address(0)) revert Errors.BadConfiguration("token");
        if (address(config.tokenMessenger) == address(0)) revert Errors.BadConfiguration("tokenMessenger");
        if (address(config.messageTransmitter) == address(0)) revert Errors.BadConfiguration("messageTransmitter");
        if (config.maxFeeBps >= BASIS_POINTS) revert Errors.BadConfiguration("maxFeeBps");
        if (config.minFinalityThreshold == 0) revert Errors.BadConfiguration("minFinalityThreshold");
        uint256 count = config.chainIds.length;
        if (count == 0 || config.domains.length != count) revert Errors.BadConfiguration("domains");
        if (config.remotes.length != count) revert Errors.BadConfiguration("remotes");
        VAULT = config.vault;
        TOKEN = config.token;
        TOKEN_MESSENGER = config.tokenMessenger;
        MESSAGE_TRANSMITTER = config.messageTransmitter;
        MAX_FEE_BPS = config.maxFeeBps;
        MIN_FINALITY_THRESHOLD = config.minFinalityThreshold;
        for (uint256 i; i < count; ++i) {
            (uint64 chainId, uint32 domain, bytes32 remote) = (config.chainIds[i], config.domains[i], config.remotes[i]);
            if (remote == 0) revert Errors.BadConfiguration("remotes");
            if (chainId == 0 || chainId == block.chainid || routeOf[chainId].remote != 0) {
                revert Errors.BadConfiguration("chainIds");
            }
            if (chainOf[domain] != 0) revert Errors.BadConfiguration("domains");
            routeOf[chainId] = Route(domain, remote);
            chainOf[domain] = chainId;
        }
    }

    /// @inheritdoc IBridge
    function send(uint64 toChain, uint256 amount) external nonReentrant {
        if (msg.sender != address(VAULT)) revert Errors.NotVault(msg.sender);
        Route memory route = routeOf[toChain];
        if (route.remote == 0) revert Errors.NoRoute(toChain);
        // Below the amount for every amount above zero, as CCTP wants it.
        uint256 maxFee = amount * MAX_FEE_BPS / BASIS_POINTS;
        emit Events.BridgeSent(toChain, amount, maxFee);
        TOKEN.safeTransferFrom(msg.sender, address(this), amount);
        TOKEN.forceApprove(address(TOKEN_MESSENGER), amount);
        TOKEN_MESSENGER.depositForBurn(
            amount, route.domain, route.remote, address(TOKEN), route.remote, maxFee, MIN_FINALITY_THRESHOLD
        );
    }

    /// @inheritdoc IBridge
    /// @dev CCTP carries anybody's messages, with any body. This one must be for the token messenger, which takes burns
    /// from its counterparts only, so that the body is true; then its sender must be our adapter, which burns for
    /// shipments only.
    function receiveMessage(bytes calldata message, bytes calldata attestation) external nonReentrant {
        CctpLib.Burn memory burn = CctpLib.readBurn(message);
        uint64 fromChain = chainOf[burn.sourceDomain];
        if (fromChain == 0) revert Errors.UnknownDomain(burn.sourceDomain);
        if (burn.recipient != CctpLib.toBytes32(address(TOKEN_MESSENGER))) {
            revert Errors.NotBurnMessage(burn.recipient);
        }
        bytes32 remote = routeOf[fromChain].remote;
        if (burn.messageSender != remote) revert Errors.ForeignShipment(burn.messageSender, remote);
        if (burn.mintRecipient != CctpLib.toBytes32(address(this))) {
            revert Errors.ShipmentForAnother(burn.mintRecipient);
        }

        uint256 before = TOKEN.balanceOf(address(this));
        if (!MESSAGE_TRANSMITTER.receiveMessage(message, attestation)) revert Errors.MessageRefused(burn.nonce);
        uint256 arrived = TOKEN.balanceOf(address(this)) - before;
        if (arrived + burn.feeExecuted < burn.amount) {
            revert Errors.ArrivedShort(burn.amount, burn.feeExecuted, arrived);
        }
        emit Events.BridgeReceived(fromChain, burn.nonce, burn.amount, arrived);
        TOKEN.forceApprove(address(VAULT), arrived);
        VAULT.receiveShipment(burn.amount, arrived);
    }
}
