// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title RingLib
/// @notice Places of batches in a ring of two rows, one at even places and one at odd ones, each filled in order.
/// @dev A row is begun again, over what it had, once nothing in it counts any more; until then the other one grows. So
/// nothing that counts is overwritten however many are posted and however old their stamps, and at a steady pace, where
/// rows keep their length, posting writes over one batch and copies none. Place 0 stays empty and is the one before the
/// first.
library RingLib {
    /// @dev Packed, because every posting writes it and every proof reads it.
    struct Ring {
        uint64 newest; // place of the newest batch
        uint64 before; // place of the last batch of the other row
        uint64 since; // when the row of the newest batch was begun, 0 before there is any
    }

    /// @notice Takes the next place.
    /// @param grace Seconds for which a batch counts after the one that superseded it. The first batch of a row is what
    /// superseded the last one of the other row: the grace after it was posted, that one was the last there to count.
    function advance(Ring storage self, uint64 grace) internal returns (uint64 place) {
        Ring memory ring = self;
        place = ring.newest + 2;
        if (block.timestamp > uint256(ring.since) + grace) {
            place = 1 - (ring.newest & 1);
            (ring.before, ring.since) = (ring.newest, uint64(block.timestamp));
        }
        ring.newest = place;
        (self.newest, self.before, self.since) = (ring.newest, ring.before, ring.since);
    }

    /// @return The place of the batch that the one at `place` superseded.
    function placeBefore(Ring memory ring, uint256 place) internal pure returns (uint256) {
        return place < 2 ? ring.before : place - 2;
    }
}
