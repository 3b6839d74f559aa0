// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

import {CollateralVault} from "../../../contracts/CollateralVault.sol";
import {DevnetToken} from "../../../contracts/devnet/DevnetToken.sol";
import {Permit, Withdraw} from "../../../contracts/libraries/Types.sol";

/// @title FeeToken
/// @notice Keeps a part of every transfer, as some tokens do.
contract FeeToken is DevnetToken {
    /// @dev Basis points.
    uint256 private immutable FEE;

    constructor(uint256 fee) DevnetToken("Fee", "FEE", 18) {
        FEE = fee;
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        uint256 fee = amount * FEE / 10_000;
        super.transferFrom(from, address(this), fee);
        return super.transferFrom(from, to, amount - fee);
    }
}

/// @title ReentrantToken
/// @notice Calls back into the vault during a transfer out of it and during one into it.
contract ReentrantToken is DevnetToken {
    CollateralVault private _vault;
    Withdraw private _action;
    Permit private _permit;
    bytes private _signatures;
    bool private _armed;

    constructor() DevnetToken("Reentrant", "RE", 18) {}

    function arm(
        CollateralVault vault,
        Withdraw calldata action,
        Permit calldata permit,
        bytes calldata signatures
    ) external {
        (_vault, _action, _permit, _signatures, _armed) = (vault, action, permit, signatures, true);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (_armed) {
            _armed = false;
            _vault.withdraw(_action, _permit, _signatures);
        }
    }
}

/// @title BlockingToken
/// @notice Refuses transfers to addresses it blocks, as some settlement tokens do, and calls whom it is told from the
/// next transfer.
contract BlockingToken is DevnetToken {
    error Blocked(address account);

    mapping(address => bool) private _blocked;
    address private _target;
    bytes private _call;

    constructor() DevnetToken("USD Coin", "USDC", 6) {}

    function setBlocked(address account, bool blocked) external {
        _blocked[account] = blocked;
    }

    function onTransfer(address target, bytes calldata call_) external {
        (_target, _call) = (target, call_);
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (_blocked[to]) revert Blocked(to);
        super._update(from, to, amount);
        if (_target == address(0)) return;
        (address target, bytes memory call_) = (_target, _call);
        delete _target;
        (bool done, bytes memory refusal) = target.call(call_);
        if (done) return;
        assembly ("memory-safe") {
            revert(add(refusal, 0x20), mload(refusal))
        }
    }
}

/// @title SilentToken
/// @notice Returns nothing from its transfers, as the oldest tokens do.
contract SilentToken {
    mapping(address => uint256) public balanceOf;
    uint8 public constant decimals = 8;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) private {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}
