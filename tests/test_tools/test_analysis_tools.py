import json

import pytest

CLASSIFIER = 'configs/classification/mobilenetv1_0.25_metaacon.py'
MARKS = '<!-- tables 7 -->\n<!-- end of tables 7 -->\n'


@pytest.fixture(autouse=True)
def at_the_root(repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)


@pytest.fixture
def refusal(run_here):
    """Run a script that refuses its arguments and return what it prints last."""

    def run(script, *arguments):
        run = run_here(f'analysis_tools/{script}', *arguments)
        assert run.returncode in (1, 2)
        return run.stderr.rstrip()

    return run


def test_get_flops_prints_one_json_object(run_tool):
    script = 'analysis_tools/get_flops.py'
    run = run_tool(script, CLASSIFIER, '--json', '--shape', '64', '96')
    assert run.returncode == 0, run.stderr
    cost = json.loads(run.stdout)
    assert cost['shape'] == [3, 64, 96]
    assert cost['params'] == 572600
    assert 0 < cost['activation_flops'] < cost['flops']


def test_get_flops_counts_a_detector_at_the_size_of_its_test(run_here):
    config = 'configs/detection/retinanet_r18_relu_digits.py'
    costs = [
        json.loads(run_here('analysis_tools/get_flops.py', config, '--json', *shape).stdout)
        for shape in ([], ['--shape', '160'])
    ]
    assert costs[0] == costs[1]
    assert costs[0]['shape'] == [3, 160, 160]


def test_plot_activations_writes_outside_of_a_checkout(run_here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_here('visualization/plot_activations.py', '--dpi', '20')
    assert run.returncode == 0, run.stderr
    assert (tmp_path / 'acon_curves.png').read_bytes().startswith(b'\x89PNG')


def test_get_flops_says_what_it_leaves_out(run_here):
    run = run_here('analysis_tools/get_flops.py', CLASSIFIER)
    assert '572,600' in run.stdout
    assert 'Left out are' in run.stdout
    assert 'batch_norm' in run.stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['none.py'], "error: config 'none.py' does not exist"),
        ([CLASSIFIER, '--shape', '0'], 'argument --shape: invalid positive value'),
        ([CLASSIFIER, '--shape', '1', '2', '3'], '--shape takes one or two numbers, got 3'),
    ],
)
def test_get_flops_refuses_in_a_sentence(refusal, arguments, message):
    assert message in refusal('get_flops.py', *arguments)


def test_paper_tables_prints_the_tables_asked_for(run_here):
    script = 'analysis_tools/paper_tables.py'
    run = run_here(script, '--tables', '2,7', '--format', 'json')
    assert [table['number'] for table in json.loads(run.stdout)] == [2, 7]


def test_paper_tables_refuses_in_a_sentence(refusal):
    assert refusal('paper_tables.py', '--tables', '11').startswith('error: tables names 11')
    message = refusal('paper_tables.py', '--tables', '2', '--work-dirs', 'none')
    assert message == "error: work_dirs names 'none', which is not a folder"


def test_paper_tables_updates_readmes_of_the_project_only(refusal, tmp_path):
    path = tmp_path / 'README.md'
    path.write_text(MARKS)
    assert 'which is not in' in refusal('paper_tables.py', '--update', path)
    assert path.read_text() == MARKS
    message = refusal('paper_tables.py', '--update', tmp_path / 'none.md')
    assert message.endswith('which is not a file')
