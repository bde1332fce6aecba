/* words.c -- prompts of a few words from a small vocabulary: `_words` of a config.json, and labels of prompts. */
#include "nn/words.h"

#include "base/internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rt_words {
    char **word; /* [count], that of token k at k - 1 */
    int count, length, groups;
    signed char *group; /* [count] */
    int64_t *prompts, n_prompts;
};

void rt__words_free(rt_words *w)
{
    if (!w) return;
    for (int i = 0; w->word && i < w->count; i++) free(w->word[i]);
    free(w->word);
    free(w->group);
    free(w->prompts);
    free(w);
}

int rt_words_count(const rt_words *w) { return w->count; }
int rt_words_length(const rt_words *w) { return w->length; }
const char *rt_words_word(const rt_words *w, int token) { return token > 0 && token <= w->count ? w->word[token - 1] : NULL; }
int rt_words_group(const rt_words *w, int token) { return token > 0 && token <= w->count ? w->group[token - 1] : -1; }
int rt_words_groups(const rt_words *w) { return w->groups; }
int64_t rt_words_prompts(const rt_words *w) { return w->n_prompts; }
int64_t rt_words_prompt(const rt_words *w, int64_t i) { return w->prompts[i]; }

bool rt_words_equal(const rt_words *a, const rt_words *b)
{
    if (!a || !b) return a == b;
    bool same = a->count == b->count && a->length == b->length;
    for (int i = 0; same && i < a->count; i++) same = !strcmp(a->word[i], b->word[i]);
    return same;
}

/* ---- labels */

bool rt_words_fits(const rt_words *w, int64_t label)
{
    if (label < 0) return false;
    for (int k = 0; k < w->length; k++) label /= w->count + 1;
    return label == 0;
}

void rt_words_tokens(const rt_words *w, int64_t label, int64_t *tokens)
{
    for (int k = 0; k < w->length; k++, label /= w->count + 1) tokens[k] = label % (w->count + 1);
}

bool rt_words_of_tokens(const rt_words *w, const int64_t *tokens, int64_t *label)
{
    *label = 0;
    for (int k = w->length - 1; k >= 0; k--) {
        if (tokens[k] < 0 || tokens[k] > w->count) return false;
        *label = *label * (w->count + 1) + tokens[k];
    }
    return true;
}

const char *rt_words_text(const rt_words *w, int64_t label, char *text, size_t size)
{
    int64_t tokens[RT_WORDS_LENGTH];
    size_t at = 0;
    *text = 0;
    rt_words_tokens(w, label, tokens);
    for (int k = 0; k < w->length && at < size; k++)
        if (tokens[k] > 0) at += (size_t)snprintf(text + at, size - at, "%s%s", at ? " " : "", w->word[tokens[k] - 1]);
    return text;
}

static bool in_word(char c) { return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '\'' || (unsigned char)c >= 128; }

const char *rt_words_next(const char *text, char word[RT_WORDS_WORD + 1])
{
    size_t size = 0;
    while (*text && !in_word(*text)) text++;
    for (; in_word(*text); text++)
        if (size < RT_WORDS_WORD) word[size++] = (char)tolower((unsigned char)*text);
    word[size] = 0;
    return size ? text : NULL;
}

static rt_status unknown(const rt_words *w, const char *word, rt_error *err)
{
    char all[240] = "";
    const char *close = rt_closest(word, (const char *const *)w->word, (size_t)w->count);
    if (close) RT_RAISE(RT_E_USAGE, "prompt: '%s' is no word that the model knows; did you mean '%s'?", word, close);
    for (int i = 0; i < w->count; i++) {
        size_t n = strlen(all);
        bool fits = n + strlen(w->word[i]) + 8 < sizeof all;
        snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", fits ? w->word[i] : "...");
        if (!fits) break;
    }
    RT_RAISE(RT_E_USAGE, "prompt: '%s' is no word that the model knows; its words are %s", word, all);
}

static int find(const rt_words *w, const char *word)
{
    for (int i = 0; i < w->count; i++)
        if (!strcmp(w->word[i], word)) return i + 1;
    return 0;
}

rt_status rt_words_label(const rt_words *w, const char *prompt, int64_t *label, rt_error *err)
{
    int64_t tokens[RT_WORDS_LENGTH] = {0};
    int n = 0;
    char word[RT_WORDS_WORD + 1];
    for (const char *at = prompt; (at = rt_words_next(at, word));) {
        int token = find(w, word);
        if (!token) return unknown(w, word, err);
        if (n == w->length)
            RT_RAISE(RT_E_USAGE, "prompt: '%.200s' has more than %d words, which is what the model takes; leave some out", prompt,
                     w->length);
        tokens[n++] = token;
    }
    return rt_words_of_tokens(w, tokens, label) ? RT_OK : rt_error_set(err, RT_E_INTERNAL, "prompt: no label");
}

/* ---- `_words` */

static rt_status wrong(const rt__fields *f, const char *must) { return rt__field_wrong(f, "_words", must); }

static bool is_word(const char *text)
{
    size_t n = text ? strlen(text) : 0;
    for (size_t i = 0; i < n; i++)
        if (!in_word(text[i]) || isupper((unsigned char)text[i])) return false;
    return n > 0 && n <= RT_WORDS_WORD;
}

static rt_status read_vocabulary(const rt__fields *f, rt_words *w, const json_t *list)
{
    rt_error *err = f->err;
    size_t n = json_array_size(list);
    char must[160];
    snprintf(must, sizeof must, "vocabulary must list 1 to %d words, all different, of at most %d letters and digits, none of them capital",
             RT_WORDS_MOST, RT_WORDS_WORD);
    if (n < 1 || n > RT_WORDS_MOST) return wrong(f, must);
    w->word = calloc(n, sizeof *w->word);
    w->group = malloc(n);
    if (!w->word || !w->group) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %zu words", f->file, n);
    memset(w->group, -1, n);
    for (size_t i = 0; i < n; i++) {
        const char *word = json_string_value(json_array_get(list, i));
        if (!is_word(word) || find(w, word)) return wrong(f, must);
        w->word[i] = strdup(word);
        if (!w->word[i]) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %zu words", f->file, n);
        w->count++;
    }
    return RT_OK;
}

static rt_status read_views(const rt__fields *f, rt_words *w, const json_t *groups)
{
    static const char must[] = "views must list at most 8 lists of words of the vocabulary, each word once";
    size_t n = json_array_size(groups), i;
    if (groups && (!json_is_array(groups) || n > RT_WORDS_GROUPS)) return wrong(f, must);
    w->groups = (int)n;
    for (size_t g = 0; g < n; g++) {
        const json_t *group = json_array_get(groups, g), *word;
        if (!json_is_array(group)) return wrong(f, must);
        json_array_foreach(group, i, word)
        {
            int token = json_is_string(word) ? find(w, json_string_value(word)) : 0;
            if (!token || w->group[token - 1] >= 0) return wrong(f, must);
            w->group[token - 1] = (signed char)g;
        }
    }
    return RT_OK;
}

static rt_status read_prompts(const rt__fields *f, rt_words *w, const json_t *list)
{
    rt_error *err = f->err, why = {0};
    size_t i, n = json_array_size(list);
    const json_t *prompt;
    if (list && (!json_is_array(list) || n > RT_WORDS_MOST)) return wrong(f, "prompts must be a list of at most 4096 texts");
    w->prompts = malloc((n + 1) * sizeof *w->prompts);
    if (!w->prompts) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %zu prompts", f->file, n);
    json_array_foreach(list, i, prompt)
    {
        const char *text = json_string_value(prompt);
        if (!text || rt_words_label(w, text, &w->prompts[i], &why) != RT_OK)
            RT_RAISE(RT_E_INVALID, "%s: field '_words', prompts, element %zu: %s", f->file, i, text ? why.text : "must be a text");
    }
    w->n_prompts = (int64_t)n;
    return RT_OK;
}

rt_status rt__words_read(rt_words **out, const rt__fields *f)
{
    rt_error *err = f->err;
    const json_t *o = json_object_get(f->config, "_words"), *length = json_object_get(o, "length");
    *out = NULL;
    if (!o) return RT_OK;
    if (!json_is_object(o)) return wrong(f, "must be an object with vocabulary and length");
    rt_words *w = *out = calloc(1, sizeof *w);
    if (!w) RT_RAISE(RT_E_MEMORY, "%s: out of memory for words", f->file);
    RT_TRY(read_vocabulary(f, w, json_object_get(o, "vocabulary")));
    if (!json_is_integer(length) || json_integer_value(length) < 1 || json_integer_value(length) > RT_WORDS_LENGTH)
        return wrong(f, "length must be a whole number from 1 to 16: the most words of a prompt");
    w->length = (int)json_integer_value(length);
    int64_t labels = 1;
    for (int k = 0; k < w->length; k++)
        if (__builtin_mul_overflow(labels, (int64_t)w->count + 1, &labels))
            return wrong(f, "length is too large for so many words: (words + 1)^length must be less than 2^63");
    RT_TRY(read_views(f, w, json_object_get(o, "views")));
    return read_prompts(f, w, json_object_get(o, "prompts"));
}
