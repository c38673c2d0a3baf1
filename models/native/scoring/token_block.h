#ifndef CTRSERVE_TOKEN_BLOCK_H
#define CTRSERVE_TOKEN_BLOCK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "scoring/tokens.h"

extern PyType_Spec token_block_spec;

/* The block of a TokenBlock; NULL if the object is not one. */
const Block *token_block(PyObject *object);

#endif
