// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {
    ChainCut,
    LiquidationLeaf,
    MarginBatch,
    MarginLeaf,
    MarkLeaf,
    Move,
    Order,
    Permit,
    PermitRequest,
    Reserve,
    SettlementLeaf,
    Takeover,
    Trade,
    Unlink,
    Withdraw
} from "./Types.sol";

/// @title HashLib
/// @notice EIP-712 struct hashes, domain separators and Merkle leaves. Final from the first deployment on.
library HashLib {
    bytes32 internal constant BATCH_DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,bytes32 salt)");
    bytes32 internal constant CHAIN_DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 internal constant BATCH_TYPEHASH = keccak256(
        "MarginBatch(uint64 epoch,uint64 timestamp,uint64 validUntil,bytes32 accountsRoot,bytes32 marksRoot,bytes32 liquidationsRoot,bytes32 settlementsRoot,bytes32 cutHash,bytes32 parametersHash,uint64 attestorSetId)"
    );
    bytes32 internal constant PERMIT_TYPEHASH = keccak256(
        "Permit(bytes32 accountId,bytes32 counterpartyId,bytes32 actionHash,uint256 nonce,uint64 deadline,uint64 attestorSetId)"
    );
    bytes32 internal constant REQUEST_TYPEHASH =
        keccak256("PermitRequest(bytes32 accountId,bytes32 actionHash,uint256 nonce,uint64 deadline)");
    bytes32 internal constant ORDER_TYPEHASH = keccak256(
        "Order(bytes32 accountId,bytes32 asset,int256 size,uint256 limitPrice,uint256 maxFee,uint256 nonce,uint64 deadline,address submitter)"
    );
    bytes32 internal constant WITHDRAW_TYPEHASH =
        keccak256("Withdraw(bytes32 accountId,address token,uint256 amount,address receiver)");
    bytes32 internal constant TRADE_TYPEHASH =
        keccak256("Trade(bytes32 makerOrder,bytes32 takerOrder,int256 size,uint256 price)");
    bytes32 internal constant RESERVE_TYPEHASH = keccak256(
        "Reserve(bytes32 accountId,address integrator,uint256 amount,uint256 cashPart,uint64 until,address submitter)"
    );
    bytes32 internal constant TAKEOVER_TYPEHASH =
        keccak256("Takeover(bytes32 accountId,bytes32 liquidated,bytes32 asset,uint256 size)");
    bytes32 internal constant MOVE_TYPEHASH = keccak256("Move(bytes32 from,bytes32 to,bytes32 asset,int256 amount)");
    bytes32 internal constant UNLINK_TYPEHASH = keccak256("Unlink(bytes32 accountId,uint64 chainId)");

    // --- domains ---------------------------------------------------------------------------------------------------

    /// @return The deployment id: keccak256(abi.encode(name, deployer, salt)).
    function deploymentId(string memory name, address deployer, uint256 salt) internal pure returns (bytes32) {
        return keccak256(abi.encode(name, deployer, salt));
    }

    /// @return The separator of what is signed once for every chain of a deployment: no chain, no contract.
    function batchDomain(string memory name, string memory version, bytes32 salt) internal pure returns (bytes32) {
        return keccak256(abi.encode(BATCH_DOMAIN_TYPEHASH, keccak256(bytes(name)), keccak256(bytes(version)), salt));
    }

    /// @return The separator of what binds to one contract on one chain.
    function chainDomain(
        bytes32 nameHash,
        bytes32 versionHash,
        uint256 chainId,
        address verifyingContract
    ) internal pure returns (bytes32) {
        return keccak256(abi.encode(CHAIN_DOMAIN_TYPEHASH, nameHash, versionHash, chainId, verifyingContract));
    }

    /// @return The digest that is signed.
    function digest(bytes32 separator, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    // --- structs ---------------------------------------------------------------------------------------------------
    // Every member is one word, so a type hash followed by the ABI encoding of the struct is its EIP-712 encoding.

    function hash(MarginBatch memory batch) internal pure returns (bytes32) {
        return keccak256(abi.encode(BATCH_TYPEHASH, batch));
    }

    function hash(Permit memory permit) internal pure returns (bytes32) {
        return keccak256(abi.encode(PERMIT_TYPEHASH, permit));
    }

    function hash(PermitRequest memory request) internal pure returns (bytes32) {
        return keccak256(abi.encode(REQUEST_TYPEHASH, request));
    }

    function hash(Order memory order) internal pure returns (bytes32) {
        return keccak256(abi.encode(ORDER_TYPEHASH, order));
    }

    function hash(Withdraw memory action) internal pure returns (bytes32) {
        return keccak256(abi.encode(WITHDRAW_TYPEHASH, action));
    }

    function hash(Trade memory action) internal pure returns (bytes32) {
        return keccak256(abi.encode(TRADE_TYPEHASH, action));
    }

    function hash(Reserve memory action) internal pure returns (bytes32) {
        return keccak256(abi.encode(RESERVE_TYPEHASH, action));
    }

    function hash(Takeover memory action) internal pure returns (bytes32) {
        return keccak256(abi.encode(TAKEOVER_TYPEHASH, action));
    }

    function hash(Move memory action) internal pure returns (bytes32) {
        return keccak256(abi.encode(MOVE_TYPEHASH, action));
    }

    function hash(Unlink memory action) internal pure returns (bytes32) {
        return keccak256(abi.encode(UNLINK_TYPEHASH, action));
    }

    /// @return keccak256(abi.encode(ChainCut[])).
    function hash(ChainCut[] memory cut) internal pure returns (bytes32) {
        return keccak256(abi.encode(cut));
    }

    // --- leaves ----------------------------------------------------------------------------------------------------
    // Hashed twice, as OpenZeppelin's StandardMerkleTree does, so that a leaf never passes for a node (CM-05).

    function leaf(MarginLeaf memory value) internal pure returns (bytes32) {
        return _leaf(abi.encode(value));
    }

    function leaf(MarkLeaf memory value) internal pure returns (bytes32) {
        return _leaf(abi.encode(value));
    }

    function leaf(LiquidationLeaf memory value) internal pure returns (bytes32) {
        return _leaf(abi.encode(value));
    }

    function leaf(SettlementLeaf memory value) internal pure returns (bytes32) {
        return _leaf(abi.encode(value));
    }

    function _leaf(bytes memory encoded) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(encoded)));
    }
}
