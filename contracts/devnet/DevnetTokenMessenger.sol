// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IMessageHandlerV2, IMessageTransmitterV2, ITokenMessengerV2} from "../interfaces/ICctp.sol";
import {CctpLib} from "../libraries/CctpLib.sol";
import {DevnetToken} from "./DevnetToken.sol";

/// @title DevnetTokenMessenger
/// @notice Stands in for CCTP's TokenMessengerV2, in its message format: burns one devnet token here and mints it for
/// what was burnt in other domains. For the devnet and tests only.
contract DevnetTokenMessenger is ITokenMessengerV2, IMessageHandlerV2 {
    using SafeERC20 for IERC20;

    /// @notice Only the one token.
    error UnknownToken(bytes32 burnToken);
    /// @notice Nothing is burnt.
    error NoAmount();
    /// @notice The burn mints to no one.
    error NoMintRecipient();
    /// @notice The fee is at least the amount.
    error FeeNotBelowAmount(uint256 fee, uint256 amount);
    /// @notice No messenger in that domain.
    error NoMessenger(uint32 domain);
    /// @notice Lists of other lengths.
    error LengthMismatch();
    /// @notice Only the message transmitter delivers.
    error NotTransmitter(address caller);
    /// @notice The message was not sent by that domain's messenger.
    error ForeignMessenger(uint32 domain, bytes32 sender);
    /// @notice No burn message is so short, bytes.
    error BodyTooShort(uint256 length);
    /// @notice The body is not of this format.
    error UnknownVersion(uint32 version);
    /// @notice The message was to be delivered before this block.
    error Expired(uint256 expirationBlock);
    /// @notice A higher fee than its sender allowed.
    error FeeAboveMax(uint256 fee, uint256 maxFee);

    struct Remote {
        bytes32 messenger;
        bytes32 token;
    }

    uint32 public constant VERSION = 1;

    IMessageTransmitterV2 public immutable TRANSMITTER;
    DevnetToken public immutable TOKEN;
    address public immutable FEE_RECIPIENT;

    /// @notice The messenger of a domain and the token it burns there.
    mapping(uint32 domain => Remote) public remoteOf;

    /// @param feeRecipient Whom the fees that attestations name are minted to.
    constructor(
        IMessageTransmitterV2 transmitter,
        DevnetToken token,
        address feeRecipient,
        uint32[] memory domains,
        Remote[] memory remotes
    ) {
        if (domains.length != remotes.length) revert LengthMismatch();
        TRANSMITTER = transmitter;
        TOKEN = token;
        FEE_RECIPIENT = feeRecipient;
        for (uint256 i; i < domains.length; ++i) {
            remoteOf[domains[i]] = remotes[i];
        }
    }

    /// @inheritdoc ITokenMessengerV2
    function depositForBurn(
        uint256 amount,
        uint32 destinationDomain,
        bytes32 mintRecipient,
        address burnToken,
        bytes32 destinationCaller,
        uint256 maxFee,
        uint32 minFinalityThreshold
    ) external {
        if (burnToken != address(TOKEN)) revert UnknownToken(CctpLib.toBytes32(burnToken));
        if (amount == 0) revert NoAmount();
        if (mintRecipient == 0) revert NoMintRecipient();
        if (maxFee >= amount) revert FeeNotBelowAmount(maxFee, amount);
        bytes32 messenger = remoteOf[destinationDomain].messenger;
        if (messenger == 0) revert NoMessenger(destinationDomain);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
        TOKEN.burn(amount);
        // The attester fills in the fee, and until which block the message holds.
        bytes memory body = abi.encodePacked(
            VERSION,
            CctpLib.toBytes32(burnToken),
            mintRecipient,
            amount,
            CctpLib.toBytes32(msg.sender),
            maxFee,
            uint256(0),
            uint256(0)
        );
        TRANSMITTER.sendMessage(destinationDomain, messenger, destinationCaller, minFinalityThreshold, body);
    }

    /// @inheritdoc IMessageHandlerV2
    function handleReceiveFinalizedMessage(
        uint32 sourceDomain,
        bytes32 sender,
        uint32,
        bytes calldata messageBody
    ) external returns (bool) {
        return _mint(sourceDomain, sender, messageBody);
    }

    /// @inheritdoc IMessageHandlerV2
    function handleReceiveUnfinalizedMessage(
        uint32 sourceDomain,
        bytes32 sender,
        uint32,
        bytes calldata messageBody
    ) external returns (bool) {
        return _mint(sourceDomain, sender, messageBody);
    }

    function _mint(uint32 sourceDomain, bytes32 sender, bytes calldata body) private returns (bool) {
        if (msg.sender != address(TRANSMITTER)) revert NotTransmitter(msg.sender);
        Remote memory remote = remoteOf[sourceDomain];
        if (sender == 0 || sender != remote.messenger) revert ForeignMessenger(sourceDomain, sender);
        if (body.length < CctpLib.BURN) revert BodyTooShort(body.length);
        uint32 version = CctpLib.uint32At(body, 0);
        if (version != VERSION) revert UnknownVersion(version);
        bytes32 burnToken = CctpLib.wordAt(body, 4);
        if (burnToken != remote.token) revert UnknownToken(burnToken);
        uint256 expiration = uint256(CctpLib.wordAt(body, 196));
        if (expiration != 0 && expiration <= block.number) revert Expired(expiration);
        uint256 amount = uint256(CctpLib.wordAt(body, 68));
        uint256 maxFee = uint256(CctpLib.wordAt(body, 132));
        uint256 fee = uint256(CctpLib.wordAt(body, 164));
        if (fee >= amount) revert FeeNotBelowAmount(fee, amount);
        if (fee > maxFee) revert FeeAboveMax(fee, maxFee);
        TOKEN.mint(address(uint160(uint256(CctpLib.wordAt(body, 36)))), amount - fee);
        if (fee != 0) TOKEN.mint(FEE_RECIPIENT, fee);
        return true;
    }
}
