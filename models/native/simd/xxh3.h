/* XXH3, 64 bits, seed 0: the hash that vocabularies are sorted by.
 *
 * Written from the specification (Collet, xxHash, "XXH3 algorithm overview"); tests compare it with the `xxhash` package. */
#ifndef CTRSERVE_XXH3_H
#define CTRSERVE_XXH3_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const uint8_t XXH3_SECRET[192] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4,
    0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e,
    0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43,
    0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
    0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef,
    0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7,
    0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73,
    0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb, 0x17,
    0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe,
    0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95,
    0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};

#define XXH_PRIME32_1 0x9E3779B1U
#define XXH_PRIME32_2 0x85EBCA77U
#define XXH_PRIME32_3 0xC2B2AE3DU
#define XXH_PRIME64_1 0x9E3779B185EBCA87ULL
#define XXH_PRIME64_2 0xC2B2AE3D27D4EB4FULL
#define XXH_PRIME64_3 0x165667B19E3779F9ULL
#define XXH_PRIME64_4 0x85EBCA77C2B2AE63ULL
#define XXH_PRIME64_5 0x27D4EB2F165667C5ULL
#define XXH_PRIME_MX1 0x165667919E3779F9ULL
#define XXH_PRIME_MX2 0x9FB21C651E98DF25ULL

static inline uint64_t xxh_read64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v; /* only little-endian machines are supported, see module.c */
}

static inline uint32_t xxh_read32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static inline uint64_t xxh_rotl64(uint64_t x, int r) { return (x << r) | (x >> (64 - r)); }

static inline uint64_t xxh64_avalanche(uint64_t h) {
    h ^= h >> 33;
    h *= XXH_PRIME64_2;
    h ^= h >> 29;
    h *= XXH_PRIME64_3;
    return h ^ (h >> 32);
}

static inline uint64_t xxh3_avalanche(uint64_t h) {
    h ^= h >> 37;
    h *= XXH_PRIME_MX1;
    return h ^ (h >> 32);
}

static inline uint64_t xxh_fold128(uint64_t a, uint64_t b) {
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t xxh3_mix16(const uint8_t *p, const uint8_t *secret) {
    return xxh_fold128(xxh_read64(p) ^ xxh_read64(secret), xxh_read64(p + 8) ^ xxh_read64(secret + 8));
}

static inline uint64_t xxh3_up_to_16(const uint8_t *p, size_t n) {
    const uint8_t *s = XXH3_SECRET;
    if (n > 8) {
        uint64_t low = xxh_read64(p) ^ (xxh_read64(s + 24) ^ xxh_read64(s + 32));
        uint64_t high = xxh_read64(p + n - 8) ^ (xxh_read64(s + 40) ^ xxh_read64(s + 48));
        return xxh3_avalanche(n + __builtin_bswap64(low) + high + xxh_fold128(low, high));
    }
    if (n >= 4) {
        uint64_t x = xxh_read32(p + n - 4) + ((uint64_t)xxh_read32(p) << 32);
        x ^= xxh_read64(s + 8) ^ xxh_read64(s + 16);
        x ^= xxh_rotl64(x, 49) ^ xxh_rotl64(x, 24);
        x *= XXH_PRIME_MX2;
        x ^= (x >> 35) + n;
        x *= XXH_PRIME_MX2;
        return x ^ (x >> 28);
    }
    if (n > 0) {
        uint32_t x = ((uint32_t)p[0] << 16) | ((uint32_t)p[n >> 1] << 24) | p[n - 1] | ((uint32_t)n << 8);
        return xxh64_avalanche(x ^ (uint64_t)(xxh_read32(s) ^ xxh_read32(s + 4)));
    }
    return xxh64_avalanche(xxh_read64(s + 56) ^ xxh_read64(s + 64));
}

#define XXH_STRIPE 64
#define XXH_STRIPES_PER_BLOCK 16 /* the secret moves on by 8 bytes with each */

static inline void xxh3_add_stripe(uint64_t *sums, const uint8_t *p, const uint8_t *secret) {
    for (size_t i = 0; i < 8; i++) {
        uint64_t data = xxh_read64(p + 8 * i), key = data ^ xxh_read64(secret + 8 * i);
        sums[i ^ 1] += data;
        sums[i] += (key & UINT32_MAX) * (key >> 32);
    }
}

/* The hash of n > 240 bytes. */
static uint64_t xxh3_long(const uint8_t *p, size_t n) {
    const uint8_t *s = XXH3_SECRET, *last_secret = s + sizeof XXH3_SECRET - XXH_STRIPE;
    uint64_t sums[8] = {XXH_PRIME32_3, XXH_PRIME64_1, XXH_PRIME64_2, XXH_PRIME64_3,
                        XXH_PRIME64_4, XXH_PRIME32_2, XXH_PRIME64_5, XXH_PRIME32_1};
    size_t num_stripes = (n - 1) / XXH_STRIPE;
    for (size_t i = 0; i < num_stripes; i++) {
        xxh3_add_stripe(sums, p + XXH_STRIPE * i, s + 8 * (i % XXH_STRIPES_PER_BLOCK));
        if ((i + 1) % XXH_STRIPES_PER_BLOCK != 0) continue;
        for (size_t j = 0; j < 8; j++)
            sums[j] = (sums[j] ^ sums[j] >> 47 ^ xxh_read64(last_secret + 8 * j)) * XXH_PRIME32_1;
    }
    xxh3_add_stripe(sums, p + n - XXH_STRIPE, last_secret - 7);
    uint64_t hash = n * XXH_PRIME64_1;
    for (size_t i = 0; i < 4; i++)
        hash += xxh_fold128(sums[2 * i] ^ xxh_read64(s + 11 + 16 * i), sums[2 * i + 1] ^ xxh_read64(s + 19 + 16 * i));
    return xxh3_avalanche(hash);
}

/* The hash of n bytes. */
static inline uint64_t xxh3(const uint8_t *p, size_t n) {
    const uint8_t *s = XXH3_SECRET;
    if (n <= 16) return xxh3_up_to_16(p, n);
    if (n > 240) return xxh3_long(p, n);
    uint64_t sum = n * XXH_PRIME64_1;
    if (n <= 128) {
        for (size_t i = (n - 1) / 32 + 1; i-- > 0;)
            sum += xxh3_mix16(p + 16 * i, s + 32 * i) + xxh3_mix16(p + n - 16 * (i + 1), s + 32 * i + 16);
        return xxh3_avalanche(sum);
    }
    for (size_t i = 0; i < 8; i++) sum += xxh3_mix16(p + 16 * i, s + 16 * i);
    sum = xxh3_avalanche(sum);
    for (size_t i = 8; i < n / 16; i++) sum += xxh3_mix16(p + 16 * i, s + 16 * (i - 8) + 3);
    sum += xxh3_mix16(p + n - 16, s + 136 - 17);
    return xxh3_avalanche(sum);
}

#endif
