// Recomputes every entry of tests/vectors/codec.json with other people's code: ethers for ids, typed data and
// signatures, OpenZeppelin's merkle-tree for trees. The contracts and the keeper are tested against the same file.
//
//   node scripts/vectors.mjs            exits 1 with the name of each entry that differs
//   node scripts/vectors.mjs --write    replaces the outputs by what is computed here from the inputs
//
// The types are written here a third time on purpose: a slip in one place is then a difference and not a convention.
import { readFileSync, writeFileSync } from "node:fs";
import { StandardMerkleTree } from "@openzeppelin/merkle-tree";
import {
  AbiCoder, SigningKey, TypedDataEncoder, computeAddress, concat, getBytes, hexlify, keccak256, toBeHex, toUtf8Bytes,
} from "ethers";

const FILE = new URL("../tests/vectors/codec.json", import.meta.url);

const STRUCTS = {
  MarginBatch:
    "uint64 epoch,uint64 timestamp,uint64 validUntil,bytes32 accountsRoot,bytes32 marksRoot,bytes32 liquidationsRoot,"
    + "bytes32 settlementsRoot,bytes32 cutHash,bytes32 parametersHash,uint64 attestorSetId",
  Permit:
    "bytes32 accountId,bytes32 counterpartyId,bytes32 actionHash,uint256 nonce,uint64 deadline,uint64 attestorSetId",
  PermitRequest: "bytes32 accountId,bytes32 actionHash,uint256 nonce,uint64 deadline",
  Order:
    "bytes32 accountId,bytes32 asset,int256 size,uint256 limitPrice,uint256 maxFee,uint256 nonce,uint64 deadline,"
    + "address submitter",
  Withdraw: "bytes32 accountId,address token,uint256 amount,address receiver",
  Trade: "bytes32 makerOrder,bytes32 takerOrder,int256 size,uint256 price",
  Reserve: "bytes32 accountId,address integrator,uint256 amount,uint256 cashPart,uint64 until,address submitter",
  Takeover: "bytes32 accountId,bytes32 liquidated,bytes32 asset,uint256 size",
  Move: "bytes32 from,bytes32 to,bytes32 asset,int256 amount",
  Unlink: "bytes32 accountId,uint64 chainId",
};
const LEAVES = {
  MarginLeaf:
    "bytes32 accountId,uint64 chainId,int256 equity,uint256 initialMargin,uint256 maintenanceMargin,"
    + "uint256 escapeLimit",
  MarkLeaf:
    "bytes32 asset,uint256 price,int256 fundingIndex,uint256 longRequirement,uint256 shortRequirement,uint64 settledAt",
  LiquidationLeaf:
    "bytes32 accountId,uint64 chainId,bytes32 asset,int256 closeLimit,uint256 markPrice,uint256 maxConcession,"
    + "uint64 auctionStart,uint256 depositTarget,bytes32 counterparty",
  SettlementLeaf: "uint64 cycle,bytes32 accountId,uint64 chainId,int256 cashDelta",
};
const CUT = "uint64 chainId,uint64 number,bytes32 blockHash,uint64 time,uint64 headNumber,uint64 headTime,bool late";
const KINDS = { perpetual: 1, future: 2, call: 3, put: 4 };

const abi = AbiCoder.defaultAbiCoder();
const members = (text) => text.split(",").map((pair) => ({ type: pair.split(" ")[0], name: pair.split(" ")[1] }));
const types = (text) => members(text).map((member) => member.type);
const values = (text, object) => members(text).map((member) => object[member.name]);

function refuse(condition, reason) {
  if (condition) throw new Error(reason);
}

function ascii(text) {
  refuse(!/^[\x00-\x7f]*$/.test(text), `not ASCII: ${text}`);
  return text;
}

// Look-alikes of ASCII are among the inputs to refuse; escaped, a reader sees them.
function visible(json) {
  return json.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// What each section's outputs are, from an entry's inputs.
const SECTIONS = {
  accounts({ owner, subAccount }) {
    refuse(getBytes(owner).length !== 20, "an address has 20 bytes");
    return { id: concat([owner, toBeHex(BigInt(subAccount), 12)]) };
  },

  instruments({ kind, underlying, expiry, strike }) {
    const undated = kind === "perpetual";
    const unstruck = undated || kind === "future";
    refuse(!/^[0-9A-Za-z]{1,8}$/.test(underlying), "an underlying is 1 to 8 ASCII letters or digits");
    refuse((BigInt(expiry) === 0n) !== undated, "only a perpetual has no expiry");
    refuse((BigInt(strike) === 0n) !== unstruck, "only options have a strike");
    const name = hexlify(toUtf8Bytes(underlying)).padEnd(18, "0");
    return { id: concat([toBeHex(KINDS[kind], 1), name, toBeHex(expiry, 5), toBeHex(BigInt(strike), 16), "0x0000"]) };
  },

  tokens({ chainId, address }) {
    refuse(BigInt(chainId) === 0n, "a chain id is not zero");
    refuse(getBytes(address).length !== 20, "an address has 20 bytes");
    return { id: concat(["0x00000000", toBeHex(BigInt(chainId), 8), address]) };
  },

  deployments({ deployment, deployer, salt }) {
    return { id: keccak256(abi.encode(["string", "address", "uint256"], [ascii(deployment), deployer, salt])) };
  },

  structs({ type, value, domain }) {
    const definition = { [type]: members(STRUCTS[type]) };
    const outputs = {
      encoded: abi.encode(types(STRUCTS[type]), values(STRUCTS[type], value)),
      hash: TypedDataEncoder.hashStruct(type, definition, value),
    };
    if (domain === undefined) return outputs;
    return {
      ...outputs,
      separator: TypedDataEncoder.hashDomain({ ...domain, name: ascii(domain.name) }),
      digest: TypedDataEncoder.hash(domain, definition, value),
    };
  },

  cuts({ cut }) {
    const encoded = abi.encode([`tuple(${CUT})[]`], [cut]);
    return { encoded, hash: keccak256(encoded) };
  },

  trees({ type, leaves }) {
    const layout = types(LEAVES[type]);
    const rows = leaves.map((leaf) => values(LEAVES[type], leaf));
    const zero = layout.map((kind) => (kind === "bytes32" ? "0x".padEnd(66, "0") : 0n));
    const encoded = rows.map((row) => abi.encode(layout, row));
    const zeroLeaf = keccak256(keccak256(abi.encode(layout, zero)));
    if (rows.length === 0) return { encoded, hashes: [], zeroLeaf, zeroProof: [], root: "0x".padEnd(66, "0"), proofs: [] };
    const tree = StandardMerkleTree.of([zero, ...rows], layout);
    tree.validate();
    return {
      encoded,
      hashes: rows.map((row) => tree.leafHash(row)),
      zeroLeaf,
      zeroProof: tree.getProof(zero),
      root: tree.root,
      proofs: rows.map((row) => tree.getProof(row)),
    };
  },

  signatures({ key, digest }) {
    return { signer: computeAddress(key).toLowerCase(), signature: new SigningKey(key).sign(digest).serialized };
  },
};

function main(options) {
  const writing = options[0] === "--write";
  if (options.length > (writing ? 1 : 0)) {
    console.error("usage: node scripts/vectors.mjs [--write]");
    return 2;
  }
  const file = JSON.parse(readFileSync(FILE, "utf8"));
  const faults = [];
  let entries = 0;
  for (const [section, compute] of Object.entries(SECTIONS)) {
    if (!file[section]?.length) faults.push(`${section}: no entries`);
    for (const entry of file[section] ?? []) {
      entries += 1;
      const outputs = compute(entry);
      const different = Object.keys(outputs).filter((key) => JSON.stringify(entry[key]) !== JSON.stringify(outputs[key]));
      if (writing) Object.assign(entry, outputs);
      else if (different.length) faults.push(`${section}: ${entry.name}: ${different.join(", ")}`);
    }
  }
  for (const { name, section, input } of file.refused) {
    entries += 1;
    let accepted = true;
    try {
      SECTIONS[section](input);
    } catch {
      accepted = false;
    }
    if (accepted) faults.push(`refused: ${name}: is accepted here`);
  }
  for (const section of Object.keys(file)) {
    if (!(section in SECTIONS) && section !== "refused") faults.push(`${section}: an unknown section`);
  }
  for (const fault of faults) console.error(fault);
  if (faults.length) return 1;
  if (writing) writeFileSync(FILE, `${visible(JSON.stringify(file, null, 1))}\n`);
  console.log(`${entries} entries ${writing ? "written" : "agree"}`);
  return 0;
}

process.exitCode = main(process.argv.slice(2));
