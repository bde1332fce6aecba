/* captions.h -- the words that a data set's captions are made of. */
#ifndef CLI_CAPTIONS_H
#define CLI_CAPTIONS_H

#include "cli.h"

#include "retort/data.h"

/* `_words` of a network for the captions of a data set; with `cameras` the word camera-K stands behind each. *rows: of its table. */
rt_status cli_words_of_captions(json_t **words, const rt_dataset *ds, bool cameras, int *rows, rt_error *err);

#endif
