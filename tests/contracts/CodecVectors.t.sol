// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {AssetLib} from "../../contracts/libraries/AssetLib.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
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
} from "../../contracts/libraries/Types.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

interface VmFiles {
    function readFile(string calldata path) external view returns (string memory);
    function keyExistsJson(string calldata json, string calldata key) external view returns (bool);
    function parseJsonAddress(string calldata json, string calldata key) external pure returns (address);
    function parseJsonBytes(string calldata json, string calldata key) external pure returns (bytes memory);
    function parseJsonBytesArray(string calldata json, string calldata key) external pure returns (bytes[] memory);
    function parseJsonBytes32(string calldata json, string calldata key) external pure returns (bytes32);
    function parseJsonBytes32Array(string calldata json, string calldata key) external pure returns (bytes32[] memory);
    function parseJsonString(string calldata json, string calldata key) external pure returns (string memory);
    function parseJsonUint(string calldata json, string calldata key) external pure returns (uint256);
    function toString(uint256 value) external pure returns (string memory);
}

VmFiles constant VM = VmFiles(address(uint160(uint256(keccak256("hevm cheat code")))));

/// @notice One question about the file of vectors at a time.
/// @dev A contract of its own, because every cheat code takes the whole file as an argument: in one test's memory they
/// would add up to more gas than a test has, in a call each they are forgotten.
contract VectorFile {
    function exists(string calldata key) external view returns (bool) {
        return VM.keyExistsJson(_json(), key);
    }

    function text(string calldata key) external view returns (string memory) {
        return VM.parseJsonString(_json(), key);
    }

    function number(string calldata key) external view returns (uint256) {
        return VM.parseJsonUint(_json(), key);
    }

    function account(string calldata key) external view returns (address) {
        return VM.parseJsonAddress(_json(), key);
    }

    function word(string calldata key) external view returns (bytes32) {
        return VM.parseJsonBytes32(_json(), key);
    }

    function words(string calldata key) external view returns (bytes32[] memory) {
        return VM.parseJsonBytes32Array(_json(), key);
    }

    function data(string calldata key) external view returns (bytes memory) {
        return VM.parseJsonBytes(_json(), key);
    }

    function list(string calldata key) external view returns (bytes[] memory) {
        return VM.parseJsonBytesArray(_json(), key);
    }

    function _json() private view returns (string memory) {
        return VM.readFile("tests/vectors/codec.json");
    }
}

/// @notice The contracts' hashes against the vectors that ethers, OpenZeppelin's merkle-tree and the keeper agree on.
contract CodecVectorsTest {
    VectorFile private file;

    function setUp() public {
        file = new VectorFile();
    }

    // --- ids -------------------------------------------------------------------------------------------------------

    function test_accountIds() public view {
        uint256 i;
        for (; _has("accounts", i); ++i) {
            string memory entry = _at("accounts", i);
            bytes32 id = file.word(_key(entry, "id"));
            address owner = file.account(_key(entry, "owner"));
            uint256 subAccount = file.number(_key(entry, "subAccount"));
            _check(AccountLib.ownerOf(id) == owner, entry, "owner");
            _check(id == bytes32((uint256(uint160(owner)) << 96) | subAccount), entry, "id");
        }
        _check(file.word(".accounts[3].id") == AccountLib.FUND, ".accounts[3]", "FUND");
        _check(file.word(".accounts[4].id") == AccountLib.FEES, ".accounts[4]", "FEES");
        _atLeast(i, 6);
    }

    function test_instrumentIds() public view {
        uint256 i;
        for (; _has("instruments", i); ++i) {
            string memory entry = _at("instruments", i);
            bool perpetual = _same(file.text(_key(entry, "kind")), "perpetual");
            bytes32 id = file.word(_key(entry, "id"));
            _check(AssetLib.isPerpetual(id) == perpetual, entry, "isPerpetual");
            _check(!AssetLib.isPerpetual(id | bytes32(uint256(1))), entry, "isPerpetual with a trailing bit");
            _check(AssetLib.isInstrument(id), entry, "isInstrument");
            _check(!AssetLib.isToken(id), entry, "isToken");
            _check(AssetLib.expiryOf(id) == file.number(_key(entry, "expiry")), entry, "expiry");
            _check(uint128(uint256(id) >> 16) == file.number(_key(entry, "strike")), entry, "strike");
        }
        _atLeast(i, 9);
    }

    function test_tokenIds() public view {
        uint256 i;
        for (; _has("tokens", i); ++i) {
            string memory entry = _at("tokens", i);
            uint64 chainId = uint64(file.number(_key(entry, "chainId")));
            bytes32 id = file.word(_key(entry, "id"));
            _check(AssetLib.tokenId(chainId, file.account(_key(entry, "address"))) == id, entry, "id");
            (uint64 foundChain, address found) = AssetLib.tokenOf(id);
            _check(foundChain == chainId && found == file.account(_key(entry, "address")), entry, "tokenOf");
            _check(AssetLib.isToken(id) == (found != address(0)), entry, "isToken");
            _check(!AssetLib.isInstrument(id), entry, "isInstrument");
        }
        _atLeast(i, 4);
    }

    function test_deploymentIds() public view {
        uint256 i;
        for (; _has("deployments", i); ++i) {
            string memory entry = _at("deployments", i);
            bytes32 id = HashLib.deploymentId(
                file.text(_key(entry, "deployment")),
                file.account(_key(entry, "deployer")),
                file.number(_key(entry, "salt"))
            );
            _check(id == file.word(_key(entry, "id")), entry, "id");
        }
        _atLeast(i, 5);
    }

    // --- structs ---------------------------------------------------------------------------------------------------

    /// @notice Struct hashes of everything signed and of every action; digests in both kinds of domain (CM-06).
    function test_structsAndDigests() public view {
        uint256 i;
        for (; _has("structs", i); ++i) {
            string memory entry = _at("structs", i);
            bytes32 hashed = _structHash(file.text(_key(entry, "type")), file.data(_key(entry, "encoded")));
            _check(hashed == file.word(_key(entry, "hash")), entry, "hash");
            if (!file.exists(_key(entry, "domain"))) continue;
            bytes32 separator = _separator(_key(entry, "domain"));
            _check(separator == file.word(_key(entry, "separator")), entry, "separator");
            _check(HashLib.digest(separator, hashed) == file.word(_key(entry, "digest")), entry, "digest");
        }
        _atLeast(i, 32);
    }

    function test_cutHashes() public view {
        uint256 i;
        for (; _has("cuts", i); ++i) {
            string memory entry = _at("cuts", i);
            bytes memory encoded = file.data(_key(entry, "encoded"));
            ChainCut[] memory cut = abi.decode(encoded, (ChainCut[]));
            _check(HashLib.hash(cut) == file.word(_key(entry, "hash")), entry, "hash");
        }
        _atLeast(i, 5);
    }

    // --- trees -----------------------------------------------------------------------------------------------------

    /// @notice Leaf hashes, and a proof of every leaf to the root, the leaf of zeros included (CM-05).
    function test_trees() public view {
        uint256 i;
        for (; _has("trees", i); ++i) {
            string memory entry = _at("trees", i);
            string memory kind = file.text(_key(entry, "type"));
            bytes[] memory encoded = file.list(_key(entry, "encoded"));
            bytes32[] memory hashes = file.words(_key(entry, "hashes"));
            bytes32 root = file.word(_key(entry, "root"));
            bytes32 zeroLeaf = _zeroLeaf(kind);
            _check(zeroLeaf == file.word(_key(entry, "zeroLeaf")), entry, "zeroLeaf");
            _check((encoded.length == 0) == (root == 0), entry, "an absent tree has root 0");
            _check(encoded.length == hashes.length, entry, "hashes");
            if (encoded.length == 0) continue;
            _check(MerkleProof.verify(file.words(_key(entry, "zeroProof")), root, zeroLeaf), entry, "zeroProof");
            for (uint256 j; j < encoded.length; ++j) {
                bytes32 leaf = _leaf(kind, encoded[j]);
                bytes32[] memory proof = file.words(string.concat(entry, ".proofs[", VM.toString(j), "]"));
                _check(leaf == hashes[j] && leaf != zeroLeaf, entry, string.concat("leaf ", VM.toString(j)));
                _check(proof.length != 0, entry, "an empty proof");
                _check(MerkleProof.verify(proof, root, leaf), entry, string.concat("proof ", VM.toString(j)));
            }
        }
        _atLeast(i, 13);
    }

    // --- signatures ------------------------------------------------------------------------------------------------

    function test_signatures() public view {
        uint256 i;
        for (; _has("signatures", i); ++i) {
            string memory entry = _at("signatures", i);
            bytes memory signature = file.data(_key(entry, "signature"));
            _check(signature.length == 65, entry, "length");
            (bytes32 r, bytes32 s) = abi.decode(signature, (bytes32, bytes32));
            address signer = ecrecover(file.word(_key(entry, "digest")), uint8(signature[64]), r, s);
            _check(signer == file.account(_key(entry, "signer")), entry, "signer");
        }
        _atLeast(i, 5);
    }

    // --- by type ---------------------------------------------------------------------------------------------------

    function _structHash(string memory kind, bytes memory encoded) private pure returns (bytes32) {
        if (_same(kind, "MarginBatch")) return HashLib.hash(abi.decode(encoded, (MarginBatch)));
        if (_same(kind, "Permit")) return HashLib.hash(abi.decode(encoded, (Permit)));
        if (_same(kind, "PermitRequest")) return HashLib.hash(abi.decode(encoded, (PermitRequest)));
        if (_same(kind, "Order")) return HashLib.hash(abi.decode(encoded, (Order)));
        if (_same(kind, "Withdraw")) return HashLib.hash(abi.decode(encoded, (Withdraw)));
        if (_same(kind, "Trade")) return HashLib.hash(abi.decode(encoded, (Trade)));
        if (_same(kind, "Reserve")) return HashLib.hash(abi.decode(encoded, (Reserve)));
        if (_same(kind, "Takeover")) return HashLib.hash(abi.decode(encoded, (Takeover)));
        if (_same(kind, "Move")) return HashLib.hash(abi.decode(encoded, (Move)));
        if (_same(kind, "Unlink")) return HashLib.hash(abi.decode(encoded, (Unlink)));
        revert(string.concat("no struct ", kind));
    }

    function _leaf(string memory kind, bytes memory encoded) private pure returns (bytes32) {
        if (_same(kind, "MarginLeaf")) return HashLib.leaf(abi.decode(encoded, (MarginLeaf)));
        if (_same(kind, "MarkLeaf")) return HashLib.leaf(abi.decode(encoded, (MarkLeaf)));
        if (_same(kind, "LiquidationLeaf")) return HashLib.leaf(abi.decode(encoded, (LiquidationLeaf)));
        if (_same(kind, "SettlementLeaf")) return HashLib.leaf(abi.decode(encoded, (SettlementLeaf)));
        revert(string.concat("no leaf ", kind));
    }

    function _zeroLeaf(string memory kind) private pure returns (bytes32) {
        MarginLeaf memory margin;
        MarkLeaf memory mark;
        LiquidationLeaf memory liquidation;
        SettlementLeaf memory settlement;
        if (_same(kind, "MarginLeaf")) return HashLib.leaf(margin);
        if (_same(kind, "MarkLeaf")) return HashLib.leaf(mark);
        if (_same(kind, "LiquidationLeaf")) return HashLib.leaf(liquidation);
        return HashLib.leaf(settlement);
    }

    function _separator(string memory entry) private view returns (bytes32) {
        string memory name = file.text(_key(entry, "name"));
        string memory version = file.text(_key(entry, "version"));
        if (file.exists(_key(entry, "salt"))) {
            return HashLib.batchDomain(name, version, file.word(_key(entry, "salt")));
        }
        return HashLib.chainDomain(
            keccak256(bytes(name)),
            keccak256(bytes(version)),
            file.number(_key(entry, "chainId")),
            file.account(_key(entry, "verifyingContract"))
        );
    }

    // --- the file --------------------------------------------------------------------------------------------------

    function _at(string memory section, uint256 index) private pure returns (string memory) {
        return string.concat(".", section, "[", VM.toString(index), "]");
    }

    function _key(string memory entry, string memory member) private pure returns (string memory) {
        return string.concat(entry, ".", member);
    }

    function _has(string memory section, uint256 index) private view returns (bool) {
        return file.exists(_at(section, index));
    }

    function _same(string memory a, string memory b) private pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }

    function _check(bool holds, string memory entry, string memory what) private view {
        if (!holds) revert(string.concat(file.text(_key(entry, "name")), ": ", what));
    }

    /// @dev A loop over entries that are not found proves nothing.
    function _atLeast(uint256 entries, uint256 wanted) private pure {
        require(entries >= wanted, "entries are missing");
    }
}
