/* Trees are folded from the left with one node of every height kept: a node that is
 * finished meets its left sibling at once. What is missing on the right is made of nodes
 * of which all leaves are zero. */
#include "store/piece_hash.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/assert.h"
#include "base/status.h"

#define HEIGHT_MAX 32

typedef struct hasher {
    EVP_MD *md;
    EVP_MD_CTX *context;
    bool is_broken; /* libcrypto said no: memory */
} hasher;

static dp_status hasher_init(hasher *h, dp_error *err)
{
    h->md = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    h->context = EVP_MD_CTX_new();
    h->is_broken = !h->md || !h->context;
    return h->is_broken ? dp_fail(err, DP_E_NOMEM, "hash: libcrypto gives no SHA-256") : DP_OK;
}

static void hasher_deinit(hasher *h)
{
    EVP_MD_CTX_free(h->context);
    EVP_MD_free(h->md);
}

/* SHA-256 of a then b. */
static void hash2(hasher *h, dp_hash *out, const void *a, size_t a_size, const void *b,
                  size_t b_size)
{
    if (!EVP_DigestInit_ex2(h->context, h->md, NULL) || !EVP_DigestUpdate(h->context, a, a_size) ||
        !EVP_DigestUpdate(h->context, b, b_size) ||
        !EVP_DigestFinal_ex(h->context, out->bytes, NULL))
        h->is_broken = true;
}

static void parent(hasher *h, dp_hash *out, const dp_hash *left, const dp_hash *right)
{
    hash2(h, out, left->bytes, DP_HASH_SIZE, right->bytes, DP_HASH_SIZE);
}

/* A tree under construction; bit i of `count` says whether nodes[i] waits for its sibling. */
typedef struct tree {
    hasher *hasher;
    dp_hash nodes[HEIGHT_MAX];
    uint64_t count; /* nodes of height 0 so far */
} tree;

static void tree_add(tree *t, const dp_hash *node)
{
    dp_hash sum = *node;
    int height = 0;

    for (; t->count >> height & 1; height++)
        parent(t->hasher, &sum, &t->nodes[height], &sum);
    t->nodes[height] = sum;
    t->count++;
}

/* The root of a tree of 2^width_log2 nodes, those not added being `missing`. */
static void tree_end(tree *t, dp_hash *out, int width_log2, const dp_hash *missing)
{
    dp_hash zero = *missing, sum = *missing;
    bool has_sum = false;

    for (int height = 0; height < width_log2; height++) {
        if (t->count >> height & 1) {
            parent(t->hasher, &sum, &t->nodes[height], has_sum ? &sum : &zero);
            has_sum = true;
        } else if (has_sum) {
            parent(t->hasher, &sum, &sum, &zero);
        }
        parent(t->hasher, &zero, &zero, &zero);
    }
    *out = has_sum ? sum : t->count ? t->nodes[width_log2] : zero;
}

static int log2_up(uint64_t n)
{
    int log2 = 0;

    while ((uint64_t)1 << log2 < n)
        log2++;
    return log2;
}

uint32_t dp_pieces_count(dp_pieces p)
{
    return (uint32_t)((p.file_size + p.piece_size - 1) / p.piece_size);
}

uint32_t dp_pieces_size(dp_pieces p, uint32_t piece)
{
    uint64_t begin = (uint64_t)piece * p.piece_size;

    DP_ASSERT(begin < p.file_size);
    return (uint32_t)DP_MIN(p.file_size - begin, p.piece_size);
}

uint32_t dp_pieces_of_range(dp_pieces p, uint64_t offset, uint64_t size, uint32_t *first)
{
    DP_ASSERT(size > 0 && offset < p.file_size && size <= p.file_size - offset);
    *first = (uint32_t)(offset / p.piece_size);
    return (uint32_t)((offset + size - 1) / p.piece_size) - *first + 1;
}

dp_status dp_piece_hash(dp_hash *out, dp_pieces p, uint32_t piece, const void *bytes, dp_error *err)
{
    static const dp_hash zero;
    uint32_t size = dp_pieces_size(p, piece);
    uint64_t width = p.file_size > p.piece_size ? p.piece_size : size;
    hasher hasher;
    tree tree = { .hasher = &hasher };
    dp_status st = hasher_init(&hasher, err);

    for (uint32_t at = 0; at < size && !st; at += DP_PIECE_BLOCK) {
        dp_hash leaf;

        hash2(&hasher, &leaf, (const uint8_t *)bytes + at, DP_MIN(size - at, DP_PIECE_BLOCK), "",
              0);
        tree_add(&tree, &leaf);
    }
    if (!st) {
        tree_end(&tree, out, log2_up((width + DP_PIECE_BLOCK - 1) / DP_PIECE_BLOCK), &zero);
        if (hasher.is_broken)
            st = dp_fail(err, DP_E_NOMEM, "hash: libcrypto failed on piece %u", piece);
    }
    hasher_deinit(&hasher);
    return st;
}

dp_status dp_file_root(dp_hash *out, dp_pieces p, const dp_hash *pieces, dp_error *err)
{
    uint32_t count = dp_pieces_count(p);
    dp_hash missing = { { 0 } };
    hasher hasher;
    tree tree = { .hasher = &hasher };
    dp_status st = hasher_init(&hasher, err);

    for (uint32_t size = DP_PIECE_BLOCK; size < p.piece_size && !st; size *= 2)
        parent(&hasher, &missing, &missing, &missing); /* a piece all of whose leaves are zero */
    for (uint32_t i = 0; i < count && !st; i++)
        tree_add(&tree, &pieces[i]);
    if (!st) {
        tree_end(&tree, out, log2_up(count), &missing);
        if (hasher.is_broken)
            st = dp_fail(err, DP_E_NOMEM, "hash: libcrypto failed on a root of %u pieces", count);
    }
    hasher_deinit(&hasher);
    return st;
}

bool dp_hash_equal(const dp_hash *a, const dp_hash *b)
{
    return memcmp(a->bytes, b->bytes, DP_HASH_SIZE) == 0;
}

void dp_hash_hex(char out[2 * DP_HASH_SIZE + 1], const dp_hash *hash)
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < DP_HASH_SIZE; i++) {
        *out++ = digits[hash->bytes[i] >> 4];
        *out++ = digits[hash->bytes[i] & 15];
    }
    *out = '\0';
}
