/* words.h -- reading `_words`; the rest stands in retort/nn.h. */
#ifndef RT_NN_WORDS_H
#define RT_NN_WORDS_H

#include "nn/net.h"

/* The field `_words`, NULL where there is none; free it after a failure, too. */
rt_status rt__words_read(rt_words **words, const rt__fields *f);
void rt__words_free(rt_words *words);

#endif
