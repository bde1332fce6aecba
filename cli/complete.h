/* complete.h -- completion in shells. */
#ifndef RETORT_COMPLETE_H
#define RETORT_COMPLETE_H

#include "cli.h"

#include "retort/base.h"

/* Prints to f what the last of the words behind `retort` could become, one candidate a line; n may be 0. */
void cli_complete(int n, char **words, FILE *f);

/* Row i of a table of `retort list`; false past the last, and where there is no such table. */
bool cli_list_row(const char *table, int i, rt_row_text *row);

#endif
