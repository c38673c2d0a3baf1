#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "scoring/json.h"

#include <string.h>

#define EVERY_BYTE 0x0101010101010101ULL
#define HIGH_BITS 0x8080808080808080ULL

static inline int is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

static inline uint64_t zero_bytes(uint64_t x) { return (x - EVERY_BYTE) & ~x & HIGH_BITS; }

static int hex4(Cursor p, uint32_t *value) {
    *value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = p[i];
        uint32_t digit = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
        if (digit > 15) return -1;
        *value = *value << 4 | digit;
    }
    return 0;
}

/* Read an escape from its backslash on; return its character, or -1. */
static int32_t read_escape(Cursor *p) {
    uint32_t unit, low;
    Cursor at = *p + 1;
    *p += 2;
    switch (*at) {
    case '"': case '\\': case '/': return *at;
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'u': break;
    default: return -1;
    }
    if (hex4(at + 1, &unit) < 0) return -1;
    *p = at + 5;
    if (unit < 0xD800 || unit > 0xDFFF) return (int32_t)unit;
    if (unit > 0xDBFF || at[5] != '\\' || at[6] != 'u' || hex4(at + 7, &low) < 0 || low < 0xDC00 || low > 0xDFFF) return -1;
    *p = at + 11;
    return (int32_t)(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00));
}

static uint32_t write_utf8(uint32_t c, uint8_t *out) {
    if (c < 0x80) return out[0] = (uint8_t)c, 1;
    if (c < 0x800) return out[0] = (uint8_t)(0xC0 | c >> 6), out[1] = (uint8_t)(0x80 | (c & 63)), 2;
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xE0 | c >> 12), out[1] = (uint8_t)(0x80 | (c >> 6 & 63)), out[2] = (uint8_t)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | c >> 18), out[1] = (uint8_t)(0x80 | (c >> 12 & 63));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 63)), out[3] = (uint8_t)(0x80 | (c & 63));
    return 4;
}

/* Return the number of bytes of the UTF-8 character at p, which is not ASCII; 0 if it is not well formed (Unicode 15, table 3-7). */
static uint32_t utf8_length(Cursor p) {
    uint8_t a = p[0], least = 0x80, most = 0xBF;
    uint32_t length = a < 0xC2 ? 0 : a < 0xE0 ? 2 : a < 0xF0 ? 3 : a < 0xF5 ? 4 : 0;
    if (length == 0) return 0;
    if (a == 0xE0) least = 0xA0;
    if (a == 0xED) most = 0x9F;
    if (a == 0xF0) least = 0x90;
    if (a == 0xF4) most = 0x8F;
    if (p[1] < least || p[1] > most) return 0;
    for (uint32_t i = 2; i < length; i++)
        if (p[i] < 0x80 || p[i] > 0xBF) return 0;
    return length;
}

/* Skip printable ASCII other than quotes and backslashes, eight bytes at a time. */
static inline Cursor skip_plain(Cursor p, Cursor end) {
    for (; end - p >= 8; p += 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        uint64_t below_space = (x - 0x20 * EVERY_BYTE) & ~x & HIGH_BITS;
        if ((x & HIGH_BITS) | below_space | zero_bytes(x ^ '"' * EVERY_BYTE) | zero_bytes(x ^ '\\' * EVERY_BYTE)) break;
    }
    while (*p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') p++;
    return p;
}

/* Go from within a string behind its end. */
static Cursor skip_rest(Cursor p, Cursor end) {
    for (;;) {
        p = skip_plain(p, end);
        if (*p == '"') return p + 1;
        if (*p == '\\') {
            if (read_escape(&p) < 0) return NULL;
        } else {
            uint32_t length = *p < 0x80 ? 0 : utf8_length(p);
            if (length == 0) return NULL;
            p += length;
        }
    }
}

static Cursor decode_string(Cursor p, Cursor end, uint32_t max_chars, int is_head, uint8_t *decoded, Text *found) {
    uint32_t n = 0;
    for (uint32_t num_chars = 0; *p != '"'; num_chars++) {
        if (num_chars == max_chars) {
            *found = (Text){decoded, n};
            return is_head ? skip_rest(p, end) : NULL;
        }
        if (*p == '\\') {
            int32_t c = read_escape(&p);
            if (c < 0) return NULL;
            n += write_utf8((uint32_t)c, decoded + n);
        } else if (*p < 0x20) {
            return NULL;
        } else {
            uint32_t length = *p < 0x80 ? 1 : utf8_length(p);
            if (length == 0) return NULL;
            memcpy(decoded + n, p, length);
            n += length, p += length;
        }
    }
    *found = (Text){decoded, n};
    return p + 1;
}

static Cursor read_chars(Cursor p, Cursor end, uint32_t max_chars, int is_head, uint8_t *decoded, Text *found) {
    Cursor start = ++p;
    p = skip_plain(p, end);
    if (*p != '"') return decode_string(start, end, max_chars, is_head, decoded, found);
    if (p - start > max_chars && !is_head) return NULL;
    *found = (Text){start, p - start > max_chars ? max_chars : (uint32_t)(p - start)};
    return p + 1;
}

Cursor read_string(Cursor p, Cursor end, uint32_t max_chars, uint8_t *decoded, Text *found) {
    return read_chars(p, end, max_chars, 0, decoded, found);
}

Cursor read_string_head(Cursor p, Cursor end, uint32_t max_chars, uint8_t *decoded, Text *found) {
    return read_chars(p, end, max_chars, 1, decoded, found);
}

Cursor skip_string(Cursor p, Cursor end) { return skip_rest(p + 1, end); }

Cursor read_integer(Cursor p, Text *found) {
    static const char most[] = "9223372036854775807", least[] = "9223372036854775808";
    Cursor start = p, digits = p += *p == '-';
    if (!is_digit(*p) || (*p == '0' && is_digit(p[1]))) return NULL;
    while (is_digit(*p)) p++;
    if (*p == '.' || *p == 'e' || *p == 'E' || p - digits > 19) return NULL;
    if (p - digits == 19 && memcmp(digits, digits == start ? most : least, 19) > 0) return NULL;
    if (*digits == '0') start = digits; /* -0 is 0 */
    *found = (Text){start, (uint32_t)(p - start)};
    return p;
}

Cursor read_number(Cursor p, double *found) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    Cursor start = p;
    int is_negative = *p == '-', num_digits = 0, exponent = 0;
    uint64_t mantissa = 0;
    p += is_negative;
    if (!is_digit(*p) || (*p == '0' && is_digit(p[1]))) return NULL;
    for (; is_digit(*p); p++, num_digits++) mantissa = mantissa * 10 + (*p - '0');
    if (*p == '.') {
        if (!is_digit(*++p)) return NULL;
        for (; is_digit(*p); p++, num_digits++, exponent--) mantissa = mantissa * 10 + (*p - '0');
    }
    if (*p == 'e' || *p == 'E') {
        int sign = p[1] == '-' ? -1 : 1, power = 0;
        p += 1 + (p[1] == '-' || p[1] == '+');
        if (!is_digit(*p)) return NULL;
        for (; is_digit(*p); p++) power = power < 10000 ? power * 10 + (*p - '0') : power;
        exponent += sign * power;
    }
    if (num_digits <= 19 && mantissa <= (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22) {
        /* Both are exact, so their product or quotient is rounded once (Clinger 1990). */
        double value = exponent < 0 ? (double)mantissa / powers[-exponent] : (double)mantissa * powers[exponent];
        *found = is_negative ? -value : value;
        return p;
    }
    char *stop;
    *found = PyOS_string_to_double((const char *)start, &stop, NULL);
    if (PyErr_Occurred()) PyErr_Clear(); /* no memory for its digits */
    else if (stop == (const char *)p) return p;
    return NULL;
}

static Cursor skip_number(Cursor p) {
    p += *p == '-';
    if (!is_digit(*p) || (*p == '0' && is_digit(p[1]))) return NULL;
    while (is_digit(*p)) p++;
    if (*p == '.') {
        if (!is_digit(*++p)) return NULL;
        while (is_digit(*p)) p++;
    }
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '-' || p[1] == '+');
        if (!is_digit(*p)) return NULL;
        while (is_digit(*p)) p++;
    }
    return p;
}

static Cursor skip_word(Cursor p, const char *word) {
    while (*word != 0)
        if (*p++ != (uint8_t)*word++) return NULL;
    return p;
}

static Cursor skip_nested(Cursor p, Cursor end, int depth) {
    switch (*p) {
    case '"': return skip_string(p, end);
    case 't': return skip_word(p, "true");
    case 'f': return skip_word(p, "false");
    case 'n': return skip_word(p, "null");
    case '[': case '{': break;
    default: return skip_number(p);
    }
    if (depth == MAX_DEPTH) return NULL;
    int is_object = *p == '{';
    uint8_t close = is_object ? '}' : ']';
    int more = first_item(&p, close);
    for (; more > 0; more = next_item(&p, close)) {
        if (is_object) {
            if (*p != '"' || (p = skip_string(p, end)) == NULL || (p = skip_mark(p, ':')) == NULL) return NULL;
            p = skip_space(p);
        }
        if ((p = skip_nested(p, end, depth + 1)) == NULL) return NULL;
    }
    return more == 0 ? p : NULL;
}

Cursor skip_value(Cursor p, Cursor end) { return skip_nested(p, end, 0); }
