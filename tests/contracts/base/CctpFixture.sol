// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {CctpBridge} from "../../../contracts/adapters/CctpBridge.sol";
import {DevnetMessageTransmitter} from "../../../contracts/devnet/DevnetMessageTransmitter.sol";
import {DevnetToken} from "../../../contracts/devnet/DevnetToken.sol";
import {DevnetTokenMessenger} from "../../../contracts/devnet/DevnetTokenMessenger.sol";
import {IMessageTransmitterV2, ITokenMessengerV2} from "../../../contracts/interfaces/ICctp.sol";
import {ICollateralVault} from "../../../contracts/interfaces/ICollateralVault.sol";
import {Signers} from "./Signers.sol";
import {Vm, vm} from "./Vm.sol";

/// @title ShipmentVault
/// @notice The vault's side of the bridge and nothing else: ships what it holds, takes and records what arrives.
contract ShipmentVault {
    error Closed();

    DevnetToken private immutable TOKEN;
    CctpBridge public bridge;
    uint256 public sent;
    uint256 public arrived;
    uint256 public shipments;
    bool public closed;

    constructor(DevnetToken token) {
        TOKEN = token;
    }

    function use(CctpBridge bridge_) external {
        bridge = bridge_;
    }

    function close(bool closed_) external {
        closed = closed_;
    }

    function ship(uint64 toChain, uint256 amount) external {
        TOKEN.approve(address(bridge), amount);
        bridge.send(toChain, amount);
    }

    function receiveShipment(uint256 sent_, uint256 arrived_) external {
        if (closed) revert Closed();
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.transferFrom(msg.sender, address(this), arrived_);
        sent += sent_;
        arrived += TOKEN.balanceOf(address(this)) - before;
        ++shipments;
    }
}

/// @title CctpFixture
/// @notice Two chains' bridges in one: each with a token, Circle's two contracts as the devnet has them, an adapter and a
/// vault. Calls name the side, whose chain id is set for as long as they last.
abstract contract CctpFixture is Signers {
    uint64 internal constant CHAIN_A = 31337001;
    uint64 internal constant CHAIN_B = 31337002;
    uint32 internal constant DOMAIN_A = 7;
    uint32 internal constant DOMAIN_B = 9;
    uint256 internal constant MAX_FEE_BPS = 14;
    uint32 internal constant FINAL = 2000;
    address internal constant FEES = address(0xFEE5);
    address internal constant ANYBODY = address(0xA1B0D1);
    bytes32 internal constant NONCE = keccak256("nonce");

    /// @dev One chain.
    struct Side {
        uint64 chainId;
        uint32 domain;
        DevnetToken token;
        DevnetMessageTransmitter transmitter;
        DevnetTokenMessenger messenger;
        ShipmentVault vault;
        CctpBridge bridge;
    }

    uint256 internal attesterKey = uint256(keccak256("attester"));
    Side internal a;
    Side internal b;

    function setUp() public virtual {
        _build(a, CHAIN_A, DOMAIN_A);
        _build(b, CHAIN_B, DOMAIN_B);
        uint256 nonce = vm.getNonce(address(this));
        address[4] memory next;
        for (uint256 i; i < 4; ++i) {
            next[i] = vm.computeCreateAddress(address(this), nonce + i);
        }
        a.messenger = _messenger(a, DOMAIN_B, next[1], address(b.token));
        b.messenger = _messenger(b, DOMAIN_A, next[0], address(a.token));
        vm.chainId(CHAIN_A);
        a.bridge = new CctpBridge(configOf(a, CHAIN_B, DOMAIN_B, next[3]));
        vm.chainId(CHAIN_B);
        b.bridge = new CctpBridge(configOf(b, CHAIN_A, DOMAIN_A, next[2]));
        a.vault.use(a.bridge);
        b.vault.use(b.bridge);
        assertEq(address(b.messenger), next[1], "predicted messenger");
        assertEq(address(b.bridge), next[3], "predicted bridge");
    }

    function _build(Side storage side, uint64 chainId, uint32 domain) private {
        side.chainId = chainId;
        side.domain = domain;
        side.token = new DevnetToken("USD Coin", "USDC", 6);
        side.transmitter = new DevnetMessageTransmitter(domain, vm.addr(attesterKey));
        side.vault = new ShipmentVault(side.token);
    }

    function _messenger(
        Side storage side,
        uint32 domain,
        address messenger,
        address token
    ) private returns (DevnetTokenMessenger) {
        uint32[] memory domains = new uint32[](1);
        DevnetTokenMessenger.Remote[] memory remotes = new DevnetTokenMessenger.Remote[](1);
        domains[0] = domain;
        remotes[0] = DevnetTokenMessenger.Remote(word(messenger), word(token));
        return new DevnetTokenMessenger(side.transmitter, side.token, FEES, domains, remotes);
    }

    function configOf(
        Side storage side,
        uint64 toChain,
        uint32 domain,
        address remote
    ) internal view returns (CctpBridge.Config memory config) {
        config.vault = ICollateralVault(address(side.vault));
        config.token = IERC20(side.token);
        config.tokenMessenger = ITokenMessengerV2(side.messenger);
        config.messageTransmitter = IMessageTransmitterV2(side.transmitter);
        config.chainIds = new uint64[](1);
        config.chainIds[0] = toChain;
        config.domains = new uint32[](1);
        config.domains[0] = domain;
        config.remotes = new bytes32[](1);
        config.remotes[0] = word(remote);
        config.maxFeeBps = MAX_FEE_BPS;
        config.minFinalityThreshold = FINAL;
    }

    /// @return As CCTP writes an address.
    function word(address account) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }

    /// @return message What the source's transmitter emitted for a shipment.
    function shipped(Side storage from, uint64 toChain, uint256 amount) internal returns (bytes memory message) {
        from.token.mint(address(from.vault), amount);
        vm.chainId(from.chainId);
        vm.recordLogs();
        from.vault.ship(toChain, amount);
        return emitted(from);
    }

    /// @return message The one message that the source's transmitter emitted since logs are recorded.
    function emitted(Side storage from) internal returns (bytes memory message) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 found;
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter != address(from.transmitter)) continue;
            if (logs[i].topics[0] != keccak256("MessageSent(bytes)")) continue;
            message = abi.decode(logs[i].data, (bytes));
            ++found;
        }
        assertEq(found, 1, "messages emitted");
    }

    /// @return A message as the attester completes it before it signs.
    function completed(
        bytes memory message,
        bytes32 nonce,
        uint32 finality,
        uint256 fee
    ) internal pure returns (bytes memory) {
        put(message, 12, abi.encodePacked(nonce));
        put(message, 144, abi.encodePacked(finality));
        put(message, 148 + 164, abi.encodePacked(fee));
        return message;
    }

    /// @return The attester's signature.
    function attested(bytes memory message) internal view returns (bytes memory) {
        return sign(keccak256(message), attesterKey);
    }

    /// @dev Overwrites bytes of a message.
    function put(bytes memory message, uint256 at_, bytes memory value) internal pure {
        for (uint256 i; i < value.length; ++i) {
            message[at_ + i] = value[i];
        }
    }

    /// @dev Anybody completes an arrival.
    function receiveAt(Side storage to, bytes memory message, bytes memory attestation) internal {
        vm.chainId(to.chainId);
        vm.prank(ANYBODY);
        to.bridge.receiveMessage(message, attestation);
    }
}
