/* JSON values of one field -> rows of the embedding table. */
#ifndef CTRSERVE_READ_VALUES_H
#define CTRSERVE_READ_VALUES_H

#include "scoring/rows.h"

void put_missing(Rows *r, size_t f, size_t cell);

/* Read a value of field f; NULL if it is not one. */
Cursor read_value(Rows *r, size_t f, Cursor p, Cursor end, size_t row);

/* Read what a row says about its moment. */
Cursor read_time(Rows *r, size_t source, Cursor p, Cursor end, size_t row);

#endif
