/* The extension module `models._native`: the types and functions that the other files define. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "artifacts are little-endian, and so must be the machine"
#endif

extern PyType_Spec head_spec, name_index_spec, request_reader_spec, token_block_spec, token_index_spec;
int add_training(PyObject *module);
PyObject *hash_tokens(PyObject *module, PyObject *args), *take_rows(PyObject *module, PyObject *args);

static int add_type(PyObject *module, PyType_Spec *spec, const char *name) {
    PyObject *type = PyType_FromSpec(spec);
    int failed = type == NULL || PyModule_AddObjectRef(module, name, type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static int execute(PyObject *module) {
    if (add_type(module, &head_spec, "Head") < 0 || add_type(module, &request_reader_spec, "RequestReader") < 0 ||
        add_type(module, &token_block_spec, "TokenBlock") < 0 || add_type(module, &name_index_spec, "NameIndex") < 0 ||
        add_type(module, &token_index_spec, "TokenIndex") < 0)
        return -1;
    return add_training(module);
}

static PyMethodDef functions[] = {
    {"hash_tokens", hash_tokens, METH_VARARGS, NULL}, {"take_rows", take_rows, METH_VARARGS, NULL}, {0},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "models._native", .m_methods = functions, .m_slots = slots};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
