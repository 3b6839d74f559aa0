#!/usr/bin/env node
// The Solidity compiler as a command, from npm's WebAssembly build. Installed by scripts/setup as
// .toolchain/solc/solc-v<version>, where ape (SOLCX_BINARY_PATH), forge (foundry.toml) and slither find it.
//
// npm's own `solcjs` does not serve: it prints a notice before the JSON, cuts long output in a pipe and refuses
// --allow-paths. `solc.compile` puts the whole input on the WebAssembly stack, which some 170 files overflow; here the
// input goes to the heap (solidity_alloc).

import { existsSync, readFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { isAbsolute, relative, resolve } from "node:path";

function loadCompiler() {
  try {
    return createRequire(import.meta.url)("solc/soljson.js");
  } catch (error) {
    if (error.code === "MODULE_NOT_FOUND") fail("node_modules/solc is missing: run make setup");
    throw error;
  }
}

function fail(message) {
  writeAll(2, `solc: ${message}\n`);
  process.exit(1);
}

/** Writes everything although a pipe takes part of it at a time. */
function writeAll(descriptor, text) {
  const bytes = Buffer.from(text);
  for (let offset = 0; offset < bytes.length; ) {
    try {
      offset += writeSync(descriptor, bytes, offset);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

function parseArguments(args) {
  const options = { version: false, basePath: process.cwd(), includePaths: [], allowed: [] };
  for (let index = 0; index < args.length; index++) {
    const [name, inline] = args[index].split(/=(.*)/s);
    const value = () => inline ?? args[++index] ?? fail(`${name} wants a value`);
    if (name === "--version") options.version = true;
    else if (name === "--base-path") options.basePath = resolve(value());
    else if (name === "--include-path") options.includePaths.push(resolve(value()));
    else if (name === "--allow-paths") options.allowed = value().split(",").filter(Boolean).map((path) => resolve(path));
    else if (name !== "--standard-json" && name !== "-") fail(`unknown option ${name}; input is standard JSON on stdin`);
  }
  return options;
}

/** Imports come from under the base, include and allowed paths, and from nowhere else. */
function reader({ basePath, includePaths, allowed }) {
  const roots = [basePath, ...includePaths];
  const inside = (path) =>
    [...roots, ...allowed].some((root) => {
      const rest = relative(root, path);
      return !rest.startsWith("..") && !isAbsolute(rest);
    });
  return (name) => {
    const candidates = isAbsolute(name) ? [name] : roots.map((root) => resolve(root, name));
    const path = candidates.find((candidate) => inside(candidate) && existsSync(candidate));
    return path ? { contents: readFileSync(path, "utf8") } : { error: `File not found: ${name}` };
  };
}

function compile(soljson, input, read) {
  const copyToHeap = (text) => {
    const size = soljson.lengthBytesUTF8(text) + 1;
    const pointer = soljson._solidity_alloc(size);
    soljson.stringToUTF8(text, pointer, size);
    return pointer;
  };
  const onRead = (_context, kind, name, contents, error) => {
    const answer =
      soljson.UTF8ToString(kind) === "source"
        ? read(soljson.UTF8ToString(name))
        : { error: "only source files can be read" };
    if (answer.contents !== undefined) soljson.setValue(contents, copyToHeap(answer.contents), "*");
    else soljson.setValue(error, copyToHeap(answer.error), "*");
  };
  const callback = soljson.addFunction(onRead, "viiiii");
  return soljson.UTF8ToString(soljson._solidity_compile(copyToHeap(input), callback, 0));
}

const options = parseArguments(process.argv.slice(2));
const soljson = loadCompiler();
if (options.version) {
  const version = soljson.UTF8ToString(soljson._solidity_version());
  writeAll(1, `solc, the solidity compiler commandline interface\nVersion: ${version}\n`);
} else {
  writeAll(1, compile(soljson, readFileSync(0, "utf8"), reader(options)));
}
