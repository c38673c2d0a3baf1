/* A hash table that numbers the distinct tokens of a block of a log from 1, in order of first appearance. */
#ifndef CTRSERVE_TOKEN_INDEX_H
#define CTRSERVE_TOKEN_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "data/string_column.h"

#define NULL_CODE 0 /* code of a null */

typedef struct {
    uint64_t *slots;   /* upper half of the hash | code, 0 when free; open addressing, at most half full */
    size_t num_slots;  /* a power of two */
    uint64_t *hashes;  /* by code */
    TokenView *tokens; /* by code */
    size_t size, room; /* number of codes, NULL_CODE included, and the allocated length of the arrays by code */
    uint8_t *text;     /* of tokens longer than INLINE_BYTES */
    size_t num_bytes, text_room;
} TokenIndex;

/* Return 0, or -1 without memory. */
int token_index_open(TokenIndex *index);
void token_index_close(TokenIndex *index);

/* Write the code of each token.
 *
 * With firsts, of as many elements, a new token gets the next code and its position is written there. Without, it gets
 * NULL_CODE. Return how many tokens are new, or -1 without memory or with more than 2^32 tokens. */
ptrdiff_t token_index_number(TokenIndex *index, const StringSlice *tokens, uint32_t *codes, int64_t *firsts);

#endif
