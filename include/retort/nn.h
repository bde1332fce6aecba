/* nn.h -- networks: an architecture is parsed once from its config.json and appended to graphs any number of times, on any parameter set.
 *
 *     rt_net *net;
 *     RT_TRY(rt_net_open(&net, "teacher/unet", err));                     // a folder or a config.json
 *     rt_params *set = rt_params_new("teacher", RT_F32);
 *     RT_TRY(rt_net_declare(net, set, err));                               // entries, named by the checkpoint's keys
 *     RT_TRY(rt_net_load(net, set, "teacher/unet", err));
 *     rt_node *out = rt_net_apply(net, set, x, t, y);                      // raw output, as often as wanted
 *
 * A network may take two times, where x stands and where it is to go: maps G(x, s, t) of (1.10). `"_target_time": true` adds
 * target_embedding(features(second time)), which starts at 0, to the time embedding of a RetortMLP or a UNet2DModel (diffusers ignores fields that
 * begin with "_", and the weights).
 *
 * A network may be told the weight omega of guidance (1.40): `"_guidance": true` adds guidance_embedding(features(1000 omega)), which starts at 0, to the time
 * embedding of a RetortMLP or a UNet2DModel; omega stands behind the times.
 *
 * A network may also see the draws of the step that it makes (1.4.5): `"_draws": q` adds draws_in(z), which starts at 0, to the output of a
 * RetortMLP's proj_in, a UNet2DModel's conv_in (a 3x3 convolution) and a RetortAffine (`draws_in`, one matrix per time): the first layer widened.
 * rt_net_apply then takes x and the q draws, each of x's size, concatenated along axis 1.
 *
 * A network may be told words. `"_words": {"vocabulary": ["red", ..], "length": L, "views": [["front", ..], ..], "prompts": ["a red chair", ..]}` makes what it
 * takes for a class a prompt of at most L words: token k > 0 is the k-th word, 0 is none, and the embeddings of a prompt's tokens are added, of
 * row 0 nothing; so num_class_embeds is one more than there are words, and no words at all are the null prompt. Outside of graphs a prompt is one number, its
 * label: tokens are its digits to the base of the table's rows. `views` (may be left out) are groups of words that say from where something is seen; `prompts` are those that samples get
 * in turn where none are given.
 *
 * A network may be told a camera: `"_camera": true` adds camera_embedding.linear_2(silu(camera_embedding.linear_1(c))), whose last layer starts at 0, to the time
 * embedding of a RetortMLP or a UNet2DModel. c are the upper 12 numbers of the camera's 4x4 matrix to the world, row by row; they stand behind the times.
 *
 * Kinds, by `_class_name`; a field that is absent takes the value in brackets:
 *
 *   UNet2DModel       as diffusers 0.42 evaluates it, dropout being the identity: Down, AttnDown and ResnetDownsample blocks and their counterparts
 *                     up, UNetMidBlock2D or null, every other option. block_out_channels and the block types must be given. sample_size (32) is the
 *                     size of samples; the network takes every size that its levels can halve.
 *   RetortMLP         data_dim, hidden [128], layers [3], num_class_embeds [null], time_features [32], act_fn [silu]. With a = act_fn:
 *                         e = a(time_embedding(features(t))) + class_embedding[y]        h = proj_in(x)
 *                         h = h + linear_2(a(linear_1(a(h)) + time(e))), per layer       out = proj_out(a(h))
 *   RetortAffine      data_dim, times (whole numbers that rise). One affine map per time, for Gaussian data: out = weight[k] x + bias[k] with the
 *                     last k for which times[k] <= t, 0 if there is none.
 *   RetortClassifier  in_channels, sample_size, num_classes, block_out_channels, layers_per_block [1], norm_num_groups [8], act_fn [silu]:
 *                     conv_in; per level a 3x3 convolution of stride 2 (not before the first), then residual blocks
 *                     x + conv2(a(norm2(conv1(a(norm1(x)))))); a(norm_out), the mean over the pixels (the features), head. */
#ifndef RETORT_NN_H
#define RETORT_NN_H

#include "retort/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_net rt_net;

/* Words of a prompt, as `_words` lists them. */
typedef struct rt_words rt_words;

/* What y is: nothing; (B) I64 below `classes`, with words (B,L), tokens of prompts; (B) numbers, embedded as times are (class_embed_type "timestep"); (B,label_width) real, added to the
 * time embedding ("identity"). */
typedef enum rt_label { RT_LABEL_NONE, RT_LABEL_CLASS, RT_LABEL_NUMBER, RT_LABEL_VECTOR } rt_label;

enum { RT_NET_LEVELS = 13, RT_CAMERA_NUMBERS = 12 };

typedef struct rt_net_info {
    const char *kind;              /* "UNet2DModel", "RetortMLP", "RetortAffine", "RetortClassifier" */
    int in_channels, out_channels; /* vectors: the dimension */
    int height, width;             /* sample_size; 0 for vectors. A UNet also takes other sizes */
    rt_label label;                /* what rt_net_apply takes as y */
    int label_width;               /* of RT_LABEL_VECTOR, else 0 */
    int draws;                     /* q of `_draws`, 0: none; x has (1 + q) in_channels channels */
    int times;                     /* 1: where x stands; 2: and where it is to go */
    bool guidance;                 /* told omega, too */
    bool camera;                   /* told a camera, too */
    int told;              /* what t is: 1: (B), a time; else (B,told), the times, a camera's 12 numbers, omega, whichever there are */
    int classes;           /* rows of the class table, the null class included; 0: none. Classifiers: classes told apart */
    const rt_words *words; /* what labels mean; NULL: classes. The network's */
    int features;          /* classifiers: width of the pooled features */
    int n_levels;          /* all others: hidden representations, of rt_net_levels */
    int level_channels[RT_NET_LEVELS];
    bool classifier;
} rt_net_info;

/* Row i of `retort list networks`; false past the last. */
bool rt_net_kind_describe(int i, rt_row_text *row);

/* Path of a config.json, or of a folder that holds one. RT_E_INVALID names file, field, value and remedy. */
rt_status rt_net_open(rt_net **net, const char *path, rt_error *err);
/* The same network with `"_draws": draws` in its config.json. RT_E_USAGE if its kind sees none. */
rt_status rt_net_with_draws(rt_net **net, const rt_net *like, int draws, rt_error *err);
/* Likewise with `"_guidance": true`. */
rt_status rt_net_with_guidance(rt_net **net, const rt_net *like, rt_error *err);
/* Likewise with `"_camera": true`. */
rt_status rt_net_with_camera(rt_net **net, const rt_net *like, rt_error *err);
void rt_net_free(rt_net *net);
const rt_net_info *rt_net_describe(const rt_net *net);
const char *rt_net_config(const rt_net *net); /* the text of config.json */

/* ---- words. A label is a number from 0 (the null prompt) to rows^L - 1. */

enum { RT_WORDS_LENGTH = 16, RT_WORDS_MOST = 1 << 12, RT_WORDS_GROUPS = 8, RT_WORDS_TEXT = 1024, RT_WORDS_WORD = 40 };
/* The next word of a text, at most RT_WORDS_WORD bytes of it, in small letters; what stands behind it, or NULL where there is none. */
const char *rt_words_next(const char *text, char word[RT_WORDS_WORD + 1]);
int rt_words_count(const rt_words *w);                   /* of the vocabulary; tokens are 1 .. count */
int rt_words_length(const rt_words *w);                  /* L */
const char *rt_words_word(const rt_words *w, int token); /* NULL: there is no such token */
int rt_words_group(const rt_words *w, int token);        /* of views: 0, 1, ..; -1: none of them */
int rt_words_groups(const rt_words *w);
int64_t rt_words_prompts(const rt_words *w);           /* of the list of prompts */
int64_t rt_words_prompt(const rt_words *w, int64_t i); /* label of number i */
/* The label of a prompt: words with blanks and punctuation between them, in either case of letters. RT_E_USAGE where a word is not known (with the nearest that is), or
 * there are more than L; "" is the null prompt. */
rt_status rt_words_label(const rt_words *w, const char *prompt, int64_t *label, rt_error *err);
/* The words of a label, a blank between them, as text of at most `size` bytes; tokens[L] of a label, and the label of tokens (false: they are none). */
const char *rt_words_text(const rt_words *w, int64_t label, char *text, size_t size);
void rt_words_tokens(const rt_words *w, int64_t label, int64_t *tokens);
bool rt_words_of_tokens(const rt_words *w, const int64_t *tokens, int64_t *label);
bool rt_words_fits(const rt_words *w, int64_t label);
bool rt_words_equal(const rt_words *a, const rt_words *b); /* the same words, of prompts of one length; NULL equals NULL */

/* ---- in graphs */

/* Raw output. x (B,C,H,W) or (B,D), with draws behind it along axis 1; t (B) or (B,told), the numbers the network is told, real; y as info->label says, else NULL. Classifiers take x alone and give
 * logits (B,K). */
rt_node *rt_net_apply(const rt_net *net, rt_params *set, rt_node *x, rt_node *t, rt_node *y);
rt_node *rt_net_features(const rt_net *net, rt_params *set, rt_node *x); /* classifiers: pooled features (B,F) */
/* What a critic's heads read, n_levels hidden representations: of a UNet2DModel the outputs of its blocks down, each at its own resolution before it is halved, and
 * last that of its mid block (B,C,h,w); of a RetortMLP what enters proj_out (B,F), of a RetortAffine the raw output (B,D). What lies behind is not evaluated.
 * Classifiers have none: all are inert then. */
void rt_net_levels(const rt_net *net, rt_params *set, rt_node *x, rt_node *t, rt_node *y, rt_node *levels[RT_NET_LEVELS]);

/* Adds every parameter of the network to the set, with PyTorch's default initialisation for rt_params_init. At most 2^32 numbers. */
rt_status rt_net_declare(const rt_net *net, rt_params *set, rt_error *err);
/* Multiplications and additions of one forward of one sample, convolutions counted as direct. */
double rt_net_flop(const rt_net *net);

/* Weights from a diffusers folder: *.safetensors, sharded or not, attention under its present or legacy names. Every entry must be there in its
 * shape and finite, and nothing else. `variant` NULL, or "raw" for diffusion_pytorch_model.raw.safetensors. Where there is no other file, one of 16 bits
 * is widened; prefixes that torch.compile ("_orig_mod.") and data-parallel training ("module.") put before all names are stripped. `remark` (NULL: not
 * wanted) says so in a line, empty where there is nothing to say. */
enum { RT_NET_REMARK = 1536 };
rt_status rt_net_load(const rt_net *net, rt_params *set, const char *folder, const char *variant, char remark[RT_NET_REMARK],
                      rt_error *err);
/* Writes config.json and diffusion_pytorch_model[.variant].safetensors into a folder that exists. `metadata`: key, value, ..., NULL, or NULL;
 * "format": "pt", which PyTorch's readers ask for, goes without saying. */
rt_status rt_net_save(const rt_net *net, const rt_params *set, rt_role role, const char *folder, const char *variant,
                      const char *const *metadata, rt_error *err);

#ifdef __cplusplus
}
#endif
#endif
