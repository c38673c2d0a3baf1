/* JSON values as tokens, each with its one spelling; see models.features.token_spelling. */
#ifndef CTRSERVE_TOKEN_TEXT_H
#define CTRSERVE_TOKEN_TEXT_H

#include "scoring/json.h"

#define MAX_TOKEN_CHARS 256

enum kind { TEXT, INTEGER, BOOLEAN, NUMBER };

/* Read a token of a kind that is not NUMBER; one without bytes is a null. Of a long text the first `max_chars` characters
 * count. `decoded` has room for 4 * max_chars bytes, and for 32. NULL if the value is no such token. */
Cursor read_token_text(Cursor p, Cursor end, enum kind kind, uint32_t max_chars, uint8_t *decoded, Text *found);

/* Spell a token that is written as text; 0, or -1 if it is not of the kind. */
int spell_token(enum kind kind, uint32_t max_chars, Text *text);

/* Read a number, or the text of one; NaN if it is a null: an empty text, or one that says that it is not finite. */
Cursor read_number_or_text(Cursor p, Cursor end, double *found);

#endif
