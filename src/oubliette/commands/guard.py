"""`oubliette guard learn`, `cut`, `convert`, `show`, `apply`, `measure`, `verify`, `sign` and `publish`."""

from __future__ import annotations

import typer

from oubliette.commands import guard_platform as platform
from oubliette.commands import guard_publisher as publisher
from oubliette.commands.grouped import Grouped

app = typer.Typer(
    name="guard",
    help="Publish the tensors that fine-tuning must leave frozen; fine-tune under them; check who did.",
    epilog=(
        "\b\nExamples:\n"
        "  oubliette guard learn --model nano --illegal 'Bram Ostrow' --innocent bicycle --out mask\n"
        "  oubliette guard show mask\n"
        "  oubliette guard apply --mask mask --model nano --data PICTURES --out tuned\n"
        "  oubliette guard verify --mask mask --tuned tuned"
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

app.command(cls=Grouped, epilog=publisher.LEARN_EXAMPLES)(publisher.learn)
app.command(epilog=publisher.CUT_EXAMPLES)(publisher.cut)
app.command(epilog=publisher.CONVERT_EXAMPLES)(publisher.convert)
app.command(epilog=platform.SHOW_EXAMPLES)(platform.show)
app.command(epilog=platform.APPLY_EXAMPLES)(platform.apply)
app.command(epilog=publisher.MEASURE_EXAMPLES)(publisher.measure)
app.command(epilog=platform.VERIFY_EXAMPLES)(platform.verify)
app.command(epilog=publisher.SIGN_EXAMPLES)(publisher.sign)
app.command(epilog=publisher.PUBLISH_EXAMPLES)(publisher.publish)
