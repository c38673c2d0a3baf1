#include "scoring/field_names.h"

#include <stdlib.h>
#include <string.h>

#include "scoring/tokens.h"
#include "simd/xxh3.h"

int field_names_init(FieldNames *n, size_t num_fields) {
    n->num_slots = 1;
    while (n->num_slots < 2 * (num_fields + MAX_UNKNOWN)) n->num_slots *= 2;
    n->names = calloc(num_fields + MAX_UNKNOWN, sizeof *n->names);
    n->slots = calloc(n->num_slots, sizeof *n->slots);
    n->unknown = malloc(MAX_UNKNOWN * sizeof *n->unknown);
    return n->names == NULL || n->slots == NULL || n->unknown == NULL ? -1 : 0;
}

void field_names_free(FieldNames *n) { free(n->names), free(n->slots), free(n->unknown); }

/* The slot of a name, or the free one where it belongs. */
static size_t find_slot(const FieldNames *n, const uint8_t *text, size_t num_bytes, uint64_t hash) {
    size_t slot = hash & (n->num_slots - 1);
    for (; n->slots[slot] != 0; slot = (slot + 1) & (n->num_slots - 1)) {
        const Name *name = &n->names[n->slots[slot] - 1];
        if (name->hash == hash && name->num_bytes == num_bytes && is_equal(name->text, text, num_bytes)) break;
    }
    return slot;
}

static void put(FieldNames *n, size_t place, const uint8_t *text, size_t num_bytes, uint64_t hash, size_t slot) {
    n->names[place] = (Name){.text = text, .num_bytes = num_bytes, .hash = hash, .slot = slot};
    n->slots[slot] = (uint32_t)place + 1;
}

int field_names_add(FieldNames *n, const uint8_t *text, size_t num_bytes) {
    uint64_t hash = xxh3(text, num_bytes);
    size_t slot = find_slot(n, text, num_bytes, hash);
    if (n->slots[slot] != 0) return -1;
    put(n, n->num_fields++, text, num_bytes, hash, slot);
    return 0;
}

void field_names_reset(FieldNames *n) {
    /* The last one first: no other name was moved on by a slot that is freed. */
    while (n->num_unknown > 0) n->slots[n->names[n->num_fields + --n->num_unknown].slot] = 0;
    n->num_strange = n->num_others = 0;
}

/* Whether a name may be shown: 1 to 64 of [A-Za-z0-9_.-], as in app.wire.field_types. */
static int is_plain(Text name) {
    if (name.text == NULL || name.num_bytes == 0 || name.num_bytes > MAX_PLAIN_BYTES) return 0;
    for (uint32_t i = 0; i < name.num_bytes; i++) {
        uint8_t c = name.text[i], lower = c | 0x20;
        if (!((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-')) return 0;
    }
    return 1;
}

size_t field_names_find(FieldNames *n, Text name, size_t row) {
    if (name.text == NULL) return n->num_strange++, NOT_COUNTED_APART;
    uint64_t hash = xxh3(name.text, name.num_bytes);
    size_t slot = find_slot(n, name.text, name.num_bytes, hash);
    if (n->slots[slot] != 0) {
        size_t place = n->slots[slot] - 1;
        if (place >= n->num_fields) field_names_count(n, place, row);
        return place;
    }
    if (!is_plain(name)) return n->num_strange++, NOT_COUNTED_APART;
    if (n->num_unknown == MAX_UNKNOWN) return n->num_others++, NOT_COUNTED_APART;
    size_t place = n->num_fields + n->num_unknown;
    uint8_t *text = memcpy(n->unknown[n->num_unknown++], name.text, name.num_bytes);
    put(n, place, text, name.num_bytes, hash, slot);
    field_names_count(n, place, row);
    return place;
}
