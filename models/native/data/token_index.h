/* A hash table that numbers the distinct tokens of a block of a log from 1, in order of first appearance. */
#ifndef CTRSERVE_TOKEN_INDEX_H
#define CTRSERVE_TOKEN_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define NULL_CODE 0 /* code of a null */
#define INLINE_BYTES 12

/* An Arrow string view: a token of up to 12 bytes is stored in the view itself, padded with zeros. Of a longer one, the view
 * has the length, the first four bytes, and the place of the text. */
typedef union {
    uint64_t words[2];
    struct {
        uint32_t num_bytes;
        uint8_t text[12];
    };
    struct {
        uint32_t first[2], buffer, offset; /* in an Arrow array */
    };
    struct {
        uint64_t also_first, at; /* in the index's own text */
    };
} TokenView;

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

/* Write the codes of n tokens. is_valid is Arrow's validity bitmap, read from bit `first`; NULL means that no token is null.
 *
 * With firsts [n], a new token gets the next code and its position is written there. Without, it gets NULL_CODE.
 * Return how many tokens are new, or -1 without memory or with more than 2^32 tokens. */
ptrdiff_t token_index_number(TokenIndex *index, const TokenView *views, const uint8_t *const *buffers,
                             const uint8_t *is_valid, size_t first, size_t n, uint32_t *codes, int64_t *firsts);

#endif
