"""`lfadsrm completion`: the script by which a shell completes commands, options and names."""

from __future__ import annotations

import click

PROGRAM, VARIABLE = "lfadsrm", "_LFADSRM_COMPLETE"
SHELLS = ("bash", "zsh", "fish")

# Not click's own: bash takes "factors_dim=8" for three words, and replaces the last of them only.
_BASH = """\
_lfadsrm_completion() {
    local IFS=$'\\n' i reply type value
    local -a words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if ((i > 1)) && [[ ${COMP_WORDS[i]} == '='* || ${COMP_WORDS[i - 1]} == *'=' ]]; then
            words[${#words[@]} - 1]+=${COMP_WORDS[i]}
        else
            words+=("${COMP_WORDS[i]}")
        fi
    done
    local last=${words[${#words[@]} - 1]} before=
    if [[ $last == *=* && $COMP_WORDBREAKS == *=* ]]; then before=${last%=*}=; fi
    reply=$(IFS=' ' && env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \\
        _LFADSRM_COMPLETE=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    for value in $reply; do
        type=${value%%,*}
        value=${value#*,}
        case $type in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            *) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o nosort -F _lfadsrm_completion lfadsrm 2>/dev/null ||
    complete -F _lfadsrm_completion lfadsrm
"""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print the script by which a shell completes commands, options, and the names that the collection at
    hand knows: run specs, runs, hyperparameters and their values; sites and states too.

    Put it where the shell looks for such scripts, once, and begin a new shell:

    \b
      bash   ~/.local/share/bash-completion/completions/lfadsrm
      zsh    ~/.zfunc/_lfadsrm, with `fpath=(~/.zfunc $fpath)` before `compinit` in ~/.zshrc
      fish   ~/.config/fish/completions/lfadsrm.fish

    \b
    Examples:
      lfadsrm completion bash > ~/.lfadsrm.bash      and `source ~/.lfadsrm.bash` in ~/.bashrc
      lfadsrm completion zsh > _lfadsrm
      lfadsrm completion fish > lfadsrm.fish
      source <(lfadsrm completion bash)              for this shell alone

    \b
    Exit codes: 0 printed; 2 there is no script for such a shell.
    """
    click.echo(_BASH if shell == "bash" else _script(shell), nl=False)


def _script(shell: str) -> str:
    from click.shell_completion import get_completion_class

    from lfadsrm_hpc.cli.main import lfadsrm

    found = get_completion_class(shell)
    assert found is not None  # one of SHELLS
    return found(lfadsrm, {}, PROGRAM, VARIABLE).source()
