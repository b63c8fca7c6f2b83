/* cli: option tables, errors and exit codes, the model cache, progress bars. Shared by every command. */
#include "cli/cli.h"
