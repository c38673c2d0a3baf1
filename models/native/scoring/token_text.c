#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "scoring/token_text.h"

#include <math.h>
#include <string.h>

#define MAX_NUMBER_CHARS 64

static const uint8_t TRUE_TEXT[] = "true", FALSE_TEXT[] = "false", ZERO_TEXT[] = "0";

static int is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

static int is_one_of(Text text, const char *const *words) {
    for (; *words != NULL; words++)
        if (text.num_bytes == strlen(*words) && memcmp(text.text, *words, text.num_bytes) == 0) return 1;
    return 0;
}

/* Whether n bytes are a whole number without needless zeros. */
static int is_whole(const uint8_t *text, size_t n) {
    size_t i = n > 0 && text[0] == '-';
    if (i == n || (text[i] == '0' && n > 1)) return 0;
    while (i < n && is_digit(text[i])) i++;
    return i == n;
}

static Text spell(Text text) {
    static const char *const trues[] = {"True", "TRUE", NULL}, *const falses[] = {"False", "FALSE", NULL};
    const uint8_t *t = text.text;
    size_t n = text.num_bytes;
    if (n < 2) return text;
    if (t[0] == 'T' && is_one_of(text, trues)) return (Text){TRUE_TEXT, 4};
    if (t[0] == 'F' && is_one_of(text, falses)) return (Text){FALSE_TEXT, 5};
    if (t[n - 1] != '0' || !(is_digit(t[0]) || t[0] == '-')) return text;
    size_t whole = n;
    while (whole > 0 && t[whole - 1] == '0') whole--;
    whole = whole > 0 && whole < n && t[whole - 1] == '.' ? whole - 1 : n;
    if (whole == 2 && t[0] == '-' && t[1] == '0') return (Text){ZERO_TEXT, 1};
    return whole < n && is_whole(t, whole) ? (Text){t, (uint32_t)whole} : text;
}

/* Cut a UTF-8 text after so many characters. */
static void cut(Text *text, uint32_t max_chars) {
    if (text->num_bytes <= max_chars) return;
    uint32_t n = 0, num_chars = 0;
    for (; n < text->num_bytes; n++)
        if ((text->text[n] & 0xC0) != 0x80 && num_chars++ == max_chars) break;
    text->num_bytes = n;
}

int spell_token(enum kind kind, uint32_t max_chars, Text *text) {
    cut(text, max_chars);
    *text = spell(*text);
    size_t n = text->num_bytes;
    if (kind == TEXT || n == 0) return 0;
    if (kind == INTEGER) return is_whole(text->text, n) ? 0 : -1;
    if (n == 1 && (text->text[0] == '1' || text->text[0] == '0'))
        *text = text->text[0] == '1' ? (Text){TRUE_TEXT, 4} : (Text){FALSE_TEXT, 5};
    static const char *const booleans[] = {"true", "false", NULL};
    return is_one_of(*text, booleans) ? 0 : -1;
}

/* Read a number as Python writes it. */
static Cursor read_number_text(Cursor p, uint32_t max_chars, uint8_t *decoded, Text *found) {
    double x;
    Cursor after = read_number(p, &x), at = p;
    if (after == NULL || after - p > max_chars) return NULL;
    while (at < after && *at != '.' && *at != 'e' && *at != 'E') at++;
    *found = (Text){p, (uint32_t)(after - p)};
    if (at == after) return after;
    if (!isfinite(x)) return NULL;
    char *text = PyOS_double_to_string(x, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (text == NULL) return PyErr_Clear(), NULL;
    size_t n = strlen(text);
    if (n > 32) n = 32;
    memcpy(decoded, text, n);
    PyMem_Free(text);
    *found = (Text){decoded, (uint32_t)n};
    return after;
}

Cursor read_token_text(Cursor p, Cursor end, enum kind kind, uint32_t max_chars, uint8_t *decoded, Text *found) {
    if (*p == '"') p = read_string_head(p, end, max_chars, decoded, found);
    else if (*p == '-' || is_digit(*p)) p = read_number_text(p, max_chars, decoded, found);
    else if (end - p >= 4 && memcmp(p, TRUE_TEXT, 4) == 0) *found = (Text){TRUE_TEXT, 4}, p += 4;
    else if (end - p >= 5 && memcmp(p, FALSE_TEXT, 5) == 0) *found = (Text){FALSE_TEXT, 5}, p += 5;
    else return NULL;
    return p != NULL && spell_token(kind, max_chars, found) == 0 ? p : NULL;
}

/* The number that a text says; 0, or -1 if it says none. */
static int number_of(Text text, double *found) {
    static const char *const not_finite[] = {"nan", "inf", "infinity", NULL};
    char copy[MAX_NUMBER_CHARS + 1], *stop;
    size_t n = 0, num_digits = 0;
    for (uint32_t i = 0; i < text.num_bytes; i++) {
        uint8_t c = text.text[i];
        if (n == MAX_NUMBER_CHARS || c == 0) return -1;
        copy[n++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        num_digits += is_digit(c);
    }
    size_t start = 0;
    while (n > 0 && copy[n - 1] == ' ') n--;
    while (start < n && copy[start] == ' ') start++;
    copy[n] = 0, *found = NAN;
    if (start == n) return 0;
    size_t word = start + (copy[start] == '+' || copy[start] == '-');
    if (is_one_of((Text){(uint8_t *)copy + word, (uint32_t)(n - word)}, not_finite)) return 0;
    if (num_digits == 0 || strspn(copy + word, "0123456789.e+-") != n - word) return -1;
    *found = PyOS_string_to_double(copy + start, &stop, NULL);
    if (PyErr_Occurred()) return PyErr_Clear(), -1;
    if (isinf(*found)) *found = NAN;
    return stop == copy + n ? 0 : -1;
}

Cursor read_number_or_text(Cursor p, Cursor end, double *found) {
    uint8_t decoded[4 * MAX_NUMBER_CHARS];
    Text text;
    if (*p == 't' || *p == 'f') {
        if ((p = read_token_text(p, end, BOOLEAN, 5, decoded, &text)) != NULL) *found = text.num_bytes == 4;
        return p;
    }
    if (*p != '"') return (p = read_number(p, found)) != NULL && isfinite(*found) ? p : NULL;
    if ((p = read_string(p, end, MAX_NUMBER_CHARS, decoded, &text)) == NULL) return NULL;
    return number_of(text, found) == 0 ? p : NULL;
}
